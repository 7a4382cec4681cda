// SPDX-License-Identifier: Apache-2.0
#include "hsm/sdf_token_keys.h"

#include <algorithm>
#include <utility>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "core/crypto/digest.h"
#include "core/crypto/sm3.h"
#include "hsm/sdf_errors.h"

namespace coffer::hsm {
namespace {

constexpr std::string_view kMagic = "CFSK";
constexpr std::uint8_t kFormatVersion = 1;
// What a MAC key in memory is made from: two blocks, as the key is to have 256 bits.
constexpr std::string_view kMacKeyText = "coffer sdf hmac-sm3 key, 256 bit";
static_assert(kMacKeyText.size() == 2 * SdfSession::kBlockBytes);

}  // namespace

Bytes SdfKeysFile::checked_part() const {
  ByteWriter out;
  out.raw(as_bytes(kMagic)).u8(kFormatVersion).u8(static_cast<std::uint8_t>(place)).u32(kek);
  for (const auto& one : wrapped) out.bytes(one);
  return out.take();
}

Bytes SdfKeysFile::encode() const {
  const Bytes content = ByteWriter().raw(checked_part()).raw(check).take();
  return ByteWriter().raw(content).raw(crypto::sha256(content)).take();
}

Result<SdfKeysFile> SdfKeysFile::decode(ByteView bytes) {
  const auto damaged = [] {
    return fail(Reason::kStoreDamaged, "it is not a file of SDF keys, or it is damaged");
  };
  if (bytes.size() < crypto::kSha256Bytes || bytes.size() > kEncodedBytesMax) return damaged();
  const ByteView content = bytes.first(bytes.size() - crypto::kSha256Bytes);
  if (!std::ranges::equal(crypto::sha256(content), bytes.last(crypto::kSha256Bytes)))
    return damaged();
  ByteReader in(content);
  if (!std::ranges::equal(in.raw(kMagic.size()), as_bytes(kMagic))) in.reject();
  if (in.u8() != kFormatVersion) in.reject();
  SdfKeysFile out;
  const auto place = in.u8();
  if (place != 1 && place != 2) in.reject();
  out.place = static_cast<SdfMacPlace>(place);
  out.kek = in.u32();
  for (auto& one : out.wrapped) {
    const auto read = in.bytes(SdfSession::kWrappedBytesMax);
    if (read.size() < SdfSession::kBlockBytes) in.reject();
    one.assign(read.begin(), read.end());
  }
  const auto check = in.raw(out.check.size());
  if (check.size() == out.check.size()) std::ranges::copy(check, out.check.begin());
  if (!in.finish(Reason::kStoreDamaged, "SDF keys")) return damaged();
  return out;
}

Result<SdfTokenKeys> SdfTokenKeys::open(const std::string& path, unsigned kek,
                                        SdfSession& session) {
  const auto bytes = read_file(path, SdfKeysFile::kEncodedBytesMax);
  if (!bytes && bytes.error().reason() == Reason::kNoSuchFile)
    return fail(Reason::kNoSuchKey,
                path + " is not there: the token's keys have to be made (--make-sdf-keys)");
  if (!bytes) return tl::unexpected(bytes.error());
  auto file = SdfKeysFile::decode(*bytes);
  if (!file) return pass(file.error(), path);
  if (file->kek != kek)
    return fail(Reason::kConfigInvalid, path + " lies under key encryption key " +
                                            std::to_string(file->kek) + ", not " +
                                            std::to_string(kek));
  SdfTokenKeys out(std::move(*file));
  if (auto loaded = out.load(session); !loaded) return tl::unexpected(loaded.error());
  Mac check{};
  const auto rv = out.mac(&session, SdfKeyRole::kSeal, out.file_.checked_part(), check);
  if (rv != sdf::kOk) return fail_sdf_return(rv, "check the keys of the token");
  if (!equal_constant_time(check, out.file_.check))
    return fail(Reason::kHsmAbsent, "the device's key encryption key " + std::to_string(kek) +
                                        " is not the one that " + path + " lies under");
  return out;
}

Result<SdfTokenKeys> SdfTokenKeys::make(const std::string& path, unsigned kek, SdfMacPlace place,
                                        SdfSession& session) {
  const auto there = read_file(path, SdfKeysFile::kEncodedBytesMax);
  if (there || there.error().reason() != Reason::kNoSuchFile)
    return fail(Reason::kInvalidArgs, path + " is there already");
  SdfKeysFile file;
  file.place = place;
  file.kek = kek;
  for (auto& one : file.wrapped) {
    if (const auto rv = session.make_key(one); rv != sdf::kOk)
      return fail_sdf_return(rv, "make a key of the token");
  }
  SdfTokenKeys out(std::move(file));
  if (auto loaded = out.load(session); !loaded) return tl::unexpected(loaded.error());
  Mac check{};
  const auto rv = out.mac(&session, SdfKeyRole::kSeal, out.file_.checked_part(), check);
  if (rv != sdf::kOk) return fail_sdf_return(rv, "compute the token's check value");
  out.file_.check = check;
  if (auto written = write_file_durably(path, out.file_.encode()); !written)
    return tl::unexpected(written.error());
  return out;
}

std::string SdfTokenKeys::root_id() const {
  return "sdf-" + to_hex(ByteView(file_.check).first(8));
}

unsigned long SdfTokenKeys::mac(SdfSession* session, SdfKeyRole role, ByteView message,
                                Mac& out) const {
  if (place() == SdfMacPlace::kDevice) return session->hmac(wrapped(role), message, out);
  out = crypto::hmac_sm3(in_memory_.at(index(role)).reveal(), message);
  return sdf::kOk;
}

Result<void> SdfTokenKeys::load(SdfSession& session) {
  if (place() == SdfMacPlace::kDevice) return {};
  for (std::size_t role = 0; role < in_memory_.size(); ++role) {
    auto key = SecretBytes::zeroed(kMacKeyText.size());
    if (!key) return tl::unexpected(key.error());
    const auto rv = session.encrypt(file_.wrapped.at(role), SdfSession::Block{},
                                    as_bytes(kMacKeyText), key->reveal_mutable());
    if (rv != sdf::kOk) return fail_sdf_return(rv, "make a MAC key for memory");
    in_memory_.at(role) = std::move(*key);
  }
  return {};
}

}  // namespace coffer::hsm
