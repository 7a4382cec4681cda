// SPDX-License-Identifier: Apache-2.0
#include "hsm/pin_mark.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "core/base/bytes.h"
#include "core/base/files.h"
#include "core/crypto/digest.h"
#include "core/crypto/kdf.h"

namespace coffer::hsm {
namespace {

constexpr std::string_view kMagic = "CPINMARK";
constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kSaltBytes = 16;
constexpr std::size_t kDigestBytes = 32;
constexpr std::size_t kFileBytes = 8 + 1 + 1 + kSaltBytes + kDigestBytes + crypto::kSha256Bytes;
// A PIN has few possible values; this makes trying them all from a stolen state folder slow, and
// costs a login about 20 ms.
constexpr std::uint32_t kIterations = 50'000;

Result<SecretBytes> digest_of(const SecretBytes& pin, ByteView salt) {
  return crypto::pbkdf2_hmac_sha256(pin.reveal(), salt, kIterations, kDigestBytes);
}

struct Mark {
  PinMark::Verdict verdict = PinMark::Verdict::kNew;
  Bytes salt;
  Bytes digest;
};

Result<Mark> decode(ByteView file) {
  ByteReader in(file);
  if (as_text(in.raw(kMagic.size())) != kMagic) in.reject();
  if (in.u8() != kVersion) in.reject();
  const auto verdict = in.u8();
  if (verdict != 1 && verdict != 2) in.reject();
  const auto salt = in.raw(kSaltBytes);
  const auto digest = in.raw(kDigestBytes);
  const auto check = in.raw(crypto::kSha256Bytes);
  if (const auto end = in.finish(Reason::kStoreDamaged, "the mark of a tried PIN"); !end)
    return tl::unexpected(end.error());
  if (!std::ranges::equal(crypto::sha256(file.first(file.size() - crypto::kSha256Bytes)), check))
    return fail(Reason::kStoreDamaged, "the mark of a tried PIN is damaged");
  return Mark{static_cast<PinMark::Verdict>(verdict),
              {salt.begin(), salt.end()},
              {digest.begin(), digest.end()}};
}

}  // namespace

Result<PinMark::Verdict> PinMark::of(const SecretBytes& pin) const {
  const auto file = read_file(path_, kFileBytes);
  if (!file && file.error().reason() == Reason::kNoSuchFile) return Verdict::kNew;
  if (!file && file.error().reason() == Reason::kLimitsExceeded)
    return fail(Reason::kStoreDamaged, file.error().message());
  if (!file) return pass(file.error(), "read the mark of a tried PIN");
  const auto mark = decode(*file);
  if (!mark) return pass(mark.error(), path_);

  const auto digest = digest_of(pin, mark->salt);
  if (!digest) return tl::unexpected(digest.error());
  return equal_constant_time(digest->reveal(), mark->digest) ? mark->verdict : Verdict::kNew;
}

Result<void> PinMark::note(const SecretBytes& pin, Verdict verdict) {
  const auto salt = SecretBytes::random(kSaltBytes);
  if (!salt) return tl::unexpected(salt.error());
  const auto digest = digest_of(pin, salt->reveal());
  if (!digest) return tl::unexpected(digest.error());

  ByteWriter out;
  out.raw(as_bytes(kMagic)).u8(kVersion).u8(static_cast<std::uint8_t>(verdict));
  out.raw(salt->reveal()).raw(digest->reveal());
  out.raw(crypto::sha256(out.view()));
  return write_file_durably(path_, out.view());
}

Result<void> PinMark::clear() {
  if (::unlink(path_.c_str()) != 0)
    return errno == ENOENT ? Result<void>()
                           : Result<void>(fail_errno(errno, "remove the mark of a tried PIN"));
  return sync_folder(std::filesystem::path(path_).parent_path());
}

}  // namespace coffer::hsm
