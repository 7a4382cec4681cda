// SPDX-License-Identifier: Apache-2.0
#include "hsm/sdf_token.h"

#include <algorithm>
#include <utility>

#include "hsm/block_padding.h"
#include "hsm/sdf_errors.h"

namespace coffer::hsm {
namespace {

using keyring::KekProfile;
using keyring::KeySupport;
using keyring::VaultState;

constexpr std::size_t kBlockBytes = SdfSession::kBlockBytes;
constexpr KeySupport kSm4Wrapped{keyring::KeyAlgorithm::kSm4, keyring::KeyUsage::kEncryptDecrypt,
                                 keyring::Protection::kWrapped};
constexpr std::size_t kRootedBytesMax = 3072;

Result<void> require_known(KekProfile profile) {
  if (profile == KekProfile::kSm4CbcHmac) return {};
  return fail(Reason::kUnsupported, "an SDF device has no keys that wrap by " +
                                        std::string(keyring::kek_profile_name(profile)));
}

// What the MAC of a rooted key's material covers.
Bytes rooted_message(ByteView aad, ByteView iv, ByteView text) {
  return ByteWriter().text("coffer sdf rooted key").bytes(aad).bytes(iv).bytes(text).take();
}

VaultState state_of(Reason reason) {
  switch (reason) {
    case Reason::kHsmAbsent:
      return VaultState::kAbsent;
    case Reason::kHsmPinIncorrect:
      return VaultState::kPinRefused;
    default:
      return VaultState::kFailed;
  }
}

}  // namespace

SdfToken::SdfToken(Options options)
    : options_(std::move(options)),
      link_(options_.link, [this](SdfSession& session, const SdfModule& module) -> Result<void> {
        auto keys = SdfTokenKeys::open(options_.keys_file, options_.link.kek, session);
        if (!keys) return tl::unexpected(keys.error());
        if (keys->place() == SdfMacPlace::kDevice && !module.has_hmac())
          return fail(Reason::kUnsupported,
                      "the SDF library has no HMAC, which " + options_.keys_file + " was made for");
        keys_ = std::move(*keys);
        return {};
      }) {}

Result<std::string> SdfToken::make_keys(const Options& options) {
  std::string root_id;
  SdfLink link(options.link, [&](SdfSession& session, const SdfModule& module) -> Result<void> {
    const auto place = module.has_hmac() ? SdfMacPlace::kDevice : SdfMacPlace::kMemory;
    const auto made = SdfTokenKeys::make(options.keys_file, options.link.kek, place, session);
    if (!made) return tl::unexpected(made.error());
    root_id = made->root_id();
    return {};
  });
  if (const auto done = link.while_connected([](const SdfLink::Device&) {}); !done)
    return tl::unexpected(done.error());
  return root_id;
}

Result<VaultToken::Identity> SdfToken::identity() {
  Identity out{"", options_.kind, KekProfile::kSm4CbcHmac};
  const auto known =
      link_.while_connected([&](const SdfLink::Device&) { out.root_id = keys_->root_id(); });
  if (!known) return tl::unexpected(known.error());
  return out;
}

Result<std::vector<KeySupport>> SdfToken::supports() {
  return std::vector{kSm4Wrapped};
}

Result<Mac> SdfToken::mac_by(SdfKeyRole role, ByteView message) {
  constexpr std::string_view kStep = "compute an HMAC of the token";
  Mac out{};
  bool done = false;
  // A MAC in memory takes no session from those who need one.
  const auto connected = link_.while_connected([&](const SdfLink::Device&) {
    if (keys_->place() != SdfMacPlace::kMemory) return;
    done = keys_->mac(nullptr, role, message, out) == sdf::kOk;
  });
  if (!connected) return pass(connected.error(), kStep);
  if (done) return out;
  const auto made = link_.run(
      kStep, [&](SdfSession& session) { return keys_->mac(&session, role, message, out); });
  if (!made) return tl::unexpected(made.error());
  return out;
}

Result<Mac> SdfToken::mac(MacKey key, ByteView message) {
  return mac_by(key == MacKey::kSeal ? SdfKeyRole::kSeal : SdfKeyRole::kWrap, message);
}

Result<NewKey> SdfToken::generate(const CmkId& cmk, std::uint32_t number, const KeySupport& kind) {
  if (kind != kSm4Wrapped)
    return fail(Reason::kUnsupported, "an SDF device makes wrapped SM4 keys alone");
  NewKey out;
  const auto done = link_.run("generate version " + std::to_string(number) + " of key " + cmk.str(),
                              [&](SdfSession& session) { return session.make_key(out.material); });
  if (!done) return tl::unexpected(done.error());
  return out;
}

// `wrapped` null: the key of role kRooted, which is known while connected.
Result<SdfToken::Text> SdfToken::encrypt_padded(std::string_view step, const Bytes* wrapped,
                                                std::span<const std::byte> plain) {
  const auto whole = pad_blocks(plain);
  if (!whole) return tl::unexpected(whole.error());
  Text out;
  const auto done = link_.run(step, [&](SdfSession& session) {
    // Anew for each attempt: an IV is never used twice.
    if (const auto rv = session.random(out.iv); rv != sdf::kOk) return rv;
    out.bytes.assign(whole->size(), std::byte{0});
    const auto& key = wrapped != nullptr ? *wrapped : keys_->wrapped(SdfKeyRole::kRooted);
    const auto rv = session.encrypt(key, out.iv, whole->reveal(), out.bytes);
    if (rv != sdf::kOk) return rv;
    // A device that hands the text back must not have it stored.
    return std::ranges::equal(out.bytes, whole->reveal()) ? kSdfBadAnswer : rv;
  });
  if (!done) return tl::unexpected(done.error());
  return out;
}

Result<SecretBytes> SdfToken::decrypt_padded(std::string_view step, const Bytes* wrapped,
                                             const SdfSession::Block& iv, ByteView text) {
  auto plain = SecretBytes::zeroed(text.size());
  if (!plain) return plain;
  const auto done = link_.run(step, [&](SdfSession& session) {
    const auto& key = wrapped != nullptr ? *wrapped : keys_->wrapped(SdfKeyRole::kRooted);
    return session.decrypt(key, iv, text, plain->reveal_mutable());
  });
  if (!done) return tl::unexpected(done.error());
  // The text is what was once encrypted, as its HMAC holds: so the device is at fault.
  if (!unpad_blocks(*plain))
    return fail(Reason::kHsmFailed, std::string(step) + ": the device gives a wrong plaintext");
  return plain;
}

std::vector<Result<Ciphertext>> SdfToken::encrypt(const TokenKey& key,
                                                  std::span<const EncryptJob> jobs) {
  std::vector<Result<Ciphertext>> out;
  out.reserve(jobs.size());
  const auto known = require_known(key.version.profile);
  for (const auto& job : jobs) {
    if (!known) {
      out.emplace_back(tl::unexpected(known.error()));
      continue;
    }
    auto text = encrypt_padded("encrypt under key " + key.record.id.str(), &key.version.material,
                               job.plain);
    if (!text) {
      out.emplace_back(tl::unexpected(text.error()));
      continue;
    }
    out.emplace_back(
        Ciphertext{Bytes(text->iv.begin(), text->iv.end()), std::move(text->bytes), {}});
  }
  return out;
}

std::vector<Result<SecretBytes>> SdfToken::decrypt(const TokenKey& key,
                                                   std::span<const DecryptJob> jobs) {
  std::vector<Result<SecretBytes>> out;
  out.reserve(jobs.size());
  for (const auto& job : jobs) out.push_back(decrypt_one(key, job));
  return out;
}

Result<SecretBytes> SdfToken::decrypt_one(const TokenKey& key, const DecryptJob& job) {
  if (const auto known = require_known(key.version.profile); !known)
    return tl::unexpected(known.error());
  SdfSession::Block iv{};
  if (job.nonce.size() != iv.size() || job.bytes.empty() || job.bytes.size() % kBlockBytes != 0)
    return fail(Reason::kBlobInvalid, "a wrapped key has parts of a wrong length");
  std::ranges::copy(job.nonce, iv.begin());
  return decrypt_padded("decrypt under key " + key.record.id.str(), &key.version.material, iv,
                        job.bytes);
}

Result<Bytes> SdfToken::close_rooted(const SecretBytes& key, ByteView aad) {
  if (key.empty() || key.size() > kRootedBytesMax)
    return fail(Reason::kInvalidArgs, "a rooted key has 1 to 3072 bytes");
  const auto text = encrypt_padded("close a rooted key", nullptr, key.reveal());
  if (!text) return tl::unexpected(text.error());
  const auto mac = mac_by(SdfKeyRole::kRootedMac, rooted_message(aad, text->iv, text->bytes));
  if (!mac) return tl::unexpected(mac.error());
  return ByteWriter().raw(text->iv).raw(*mac).raw(text->bytes).take();
}

Result<SecretBytes> SdfToken::open_rooted(ByteView material, ByteView aad) {
  constexpr std::size_t kHeadBytes = kBlockBytes + SdfSession::kMacBytes;
  const auto refused = [] {
    return fail(Reason::kRecordInvalid, "the material of a rooted key does not open");
  };
  if (material.size() <= kHeadBytes || (material.size() - kHeadBytes) % kBlockBytes != 0)
    return refused();
  SdfSession::Block iv{};
  std::ranges::copy(material.first(kBlockBytes), iv.begin());
  const auto text = material.subspan(kHeadBytes);
  const auto mac = mac_by(SdfKeyRole::kRootedMac, rooted_message(aad, iv, text));
  if (!mac) return tl::unexpected(mac.error());
  if (!equal_constant_time(*mac, material.subspan(kBlockBytes, SdfSession::kMacBytes)))
    return refused();
  return decrypt_padded("open a rooted key", nullptr, iv, text);
}

Result<SecretBytes> SdfToken::random(std::size_t size_bytes) {
  if (size_bytes == 0 || size_bytes > kRandomBytesMax)
    return fail(Reason::kInvalidArgs, "1 to 65536 random bytes can be drawn at once");
  auto out = SecretBytes::zeroed(size_bytes);
  if (!out) return out;
  const auto done = link_.run("draw random bytes", [&](SdfSession& session) {
    return session.random(out->reveal_mutable());
  });
  if (!done) return tl::unexpected(done.error());
  return out;
}

keyring::VaultHealth SdfToken::health() {
  const auto start = std::chrono::steady_clock::now();
  keyring::VaultHealth out;
  out.kind = options_.kind;
  out.profile = KekProfile::kSm4CbcHmac;
  out.maker = keyring::VaultMaker::kSdf;
  const auto device = link_.probe([&](SdfSession& session) {
    SdfSession::Block text{};
    SdfSession::Block coded{};
    SdfSession::Block back{};
    Mac mac{};
    const auto& key = keys_->wrapped(SdfKeyRole::kRooted);
    auto rv = session.random(text);
    if (rv == sdf::kOk) rv = session.encrypt(key, {}, text, coded);
    if (rv == sdf::kOk) rv = session.decrypt(key, {}, coded, back);
    if (rv == sdf::kOk && back != text) rv = kSdfBadAnswer;
    if (rv == sdf::kOk) rv = keys_->mac(&session, SdfKeyRole::kSeal, text, mac);
    out.root_id = keys_->root_id();
    out.detail = keys_->place() == SdfMacPlace::kDevice
                     ? "the device answers"
                     : "the device answers; it has no HMAC, so that the keys of seals and MACs lie "
                       "in locked memory";
    return rv;
  });
  out.latency = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - start);
  out.failures = link_.failures();
  if (!device) {
    out.root_id.clear();
    out.state = state_of(device.error().reason());
    out.detail = device.error().message();
    return out;
  }
  out.state = VaultState::kUp;
  out.token_label = device->maker + " " + device->name;
  out.token_serial = device->serial;
  return out;
}

}  // namespace coffer::hsm
