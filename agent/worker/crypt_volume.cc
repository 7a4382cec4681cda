// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/crypt_volume.h"

#include <libcryptsetup.h>
#include <linux/keyctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string_view>

namespace coffer::agent {
namespace {

constexpr std::uint64_t kSectorBytes = 512;

// The library's last words: it returns numbers, and says in its log what they mean. One per
// process, like the library's own state.
std::string& last_words() {
  static std::string words;
  return words;
}

extern "C" void keep_words(int level, const char* message, void* /*unused*/) noexcept {
  if (level != CRYPT_LOG_ERROR || message == nullptr) return;
  try {
    auto words = printable(message, 300);
    while (!words.empty() && (words.back() == '?' || words.back() == ' ')) words.pop_back();
    last_words() = std::move(words);
  } catch (...) {  // NOLINT(bugprone-empty-catch): without memory there are no words.
  }
}

tl::unexpected<Error> say(Reason reason, std::string_view step, int result) {
  auto text = std::string(step);
  text += ": ";
  text += last_words().empty() ? std::string("libcryptsetup gives ") + std::to_string(result)
                               : last_words() + " (" + std::to_string(result) + ")";
  return fail(reason, std::move(text));
}

void set_up_library() {
  last_words().clear();
  ::crypt_set_log_callback(nullptr, keep_words, nullptr);
  ::crypt_set_debug_level(CRYPT_DEBUG_NONE);
  ::crypt_metadata_locking(nullptr, 0);
}

const char* key_of(const SecretBytes& key) {
  return reinterpret_cast<const char*>(key.reveal().data());
}

// "aes-xts-plain64" is the cipher aes in the mode xts-plain64.
struct CipherSpec {
  std::string cipher;
  std::string mode;
};
CipherSpec split_cipher(const std::string& text) {
  const auto dash = text.find('-');
  if (dash == std::string::npos) return {text, ""};
  return {text.substr(0, dash), text.substr(dash + 1)};
}

std::uint32_t activation_flags(const CryptVolume::Activation& activation) {
  std::uint32_t flags = CRYPT_ACTIVATE_KEYRING_KEY;
  if (activation.read_only) flags |= CRYPT_ACTIVATE_READONLY;
  if (activation.allow_discards) flags |= CRYPT_ACTIVATE_ALLOW_DISCARDS;
  if (activation.no_read_workqueue) flags |= CRYPT_ACTIVATE_NO_READ_WORKQUEUE;
  if (activation.no_write_workqueue) flags |= CRYPT_ACTIVATE_NO_WRITE_WORKQUEUE;
  return flags;
}

Reason activation_reason(int result) {
  switch (-result) {
    case EPERM:
      return Reason::kWrongKey;
    case EEXIST:
      return Reason::kAlreadyUnlocked;
    case EBUSY:
      return Reason::kBusy;
    case ENODEV:
      return Reason::kDeviceAbsent;
    case ENOTSUP:
      return Reason::kUnsupported;
    case ENOMEM:
      return Reason::kNoMemory;
    default:
      return Reason::kActivationFailed;
  }
}

// The library leaves the key in the thread's keyring under this name once the table has been
// loaded; dm-crypt has its own copy by then.
void drop_keyring_key(const char* uuid) {
  const auto name = "cryptsetup:" + std::string(uuid) + "-d0";
  for (const int ring : {KEY_SPEC_THREAD_KEYRING, KEY_SPEC_PROCESS_KEYRING}) {
    const auto key = ::syscall(SYS_keyctl, KEYCTL_SEARCH, ring, "logon", name.c_str(), 0);
    if (key > 0) ::syscall(SYS_keyctl, KEYCTL_UNLINK, key, ring);
  }
}

tl::unexpected<Error> differs(const char* field) {
  return fail(Reason::kProfileMismatch,
              std::string(field) + ": libcryptsetup reads another value than the pinned profile");
}

}  // namespace

void CryptVolume::Free::operator()(crypt_device* device) const noexcept {
  ::crypt_free(device);
}

Result<CryptVolume::Handle> CryptVolume::open(const Paths& paths) {
  set_up_library();
  crypt_device* raw = nullptr;
  const int r = ::crypt_init_data_device(&raw, paths.header.c_str(), paths.data.c_str());
  if (r < 0) return say(Reason::kActivationFailed, "open header and device", r);
  ::crypt_set_log_callback(raw, keep_words, nullptr);
  return Handle(raw);
}

Result<CryptVolume> CryptVolume::load(const Paths& paths) {
  auto device = open(paths);
  if (!device) return tl::unexpected(device.error());
  return load(std::move(*device));
}

Result<CryptVolume> CryptVolume::load(Handle device) {
  if (const int r = ::crypt_load(device.get(), CRYPT_LUKS2, nullptr); r < 0)
    return say(Reason::kHeaderUnusual, "load the checked header", r);
  return CryptVolume(std::move(device));
}

Result<CryptVolume> CryptVolume::load_header(const std::string& path) {
  set_up_library();
  crypt_device* raw = nullptr;
  if (const int r = ::crypt_init(&raw, path.c_str()); r < 0)
    return say(Reason::kInternal, "open memory with a header", r);
  Handle device(raw);
  ::crypt_set_log_callback(raw, keep_words, nullptr);
  return load(std::move(device));
}

Result<void> CryptVolume::replace_token(std::uint32_t id, const std::string& token_json) {
  const int r = ::crypt_token_json_set(device_.get(), static_cast<int>(id), token_json.c_str());
  if (r == static_cast<int>(id)) return {};
  // What the library says of a text that does not fit into the area; the token itself is good.
  const bool full = r == -ENOSPC || r == -EINVAL;
  return say(full ? Reason::kTokenSpace : Reason::kTokenInvalid, "put the token into the header",
             r);
}

Result<void> CryptVolume::format(const Paths& paths, const luks2::Profile& profile,
                                 const SecretBytes& key, const Labels& labels) {
  set_up_library();
  crypt_device* raw = nullptr;
  if (const int r = ::crypt_init(&raw, paths.header.c_str()); r < 0)
    return say(Reason::kInternal, "open memory for a header", r);
  const Handle device(raw);
  ::crypt_set_log_callback(raw, keep_words, nullptr);

  // The key is random, so the digest is as cheap as the library makes it (1000 iterations).
  crypt_pbkdf_type pbkdf{};
  pbkdf.type = CRYPT_KDF_PBKDF2;
  pbkdf.hash = "sha256";
  pbkdf.iterations = 1000;
  pbkdf.flags = CRYPT_PBKDF_NO_BENCHMARK;
  crypt_params_luks2 parameters{};
  parameters.pbkdf = &pbkdf;
  parameters.sector_size = profile.sector_bytes;
  parameters.data_device = paths.data.c_str();
  parameters.label = labels.label.empty() ? nullptr : labels.label.c_str();
  parameters.subsystem = "coffer";
  const auto spec = split_cipher(profile.cipher);
  int r = ::crypt_set_metadata_size(raw, profile.metadata_bytes, profile.keyslots_bytes);
  if (r >= 0) r = ::crypt_set_data_offset(raw, profile.data_offset_bytes / kSectorBytes);
  if (r < 0) return say(Reason::kInvalidArgs, "lay out the header", r);
  r = ::crypt_format(raw, CRYPT_LUKS2, spec.cipher.c_str(), spec.mode.c_str(),
                     profile.uuid.str().c_str(), key_of(key), key.size(), &parameters);
  if (r < 0) return say(Reason::kUnsupported, "make the header", r);
  if (r = ::crypt_token_json_set(raw, CRYPT_ANY_TOKEN, labels.token_json.c_str()); r < 0)
    return say(Reason::kTokenInvalid, "put the token into the header", r);
  return {};
}

Result<void> CryptVolume::require_profile(const luks2::Profile& profile) const {
  auto* const device = device_.get();
  const auto text = [](const char* value) { return std::string_view(value ? value : ""); };
  const auto spec = split_cipher(profile.cipher);
  if (text(::crypt_get_uuid(device)) != profile.uuid.str()) return differs("uuid");
  if (::crypt_get_data_offset(device) * kSectorBytes != profile.data_offset_bytes)
    return differs("segments.0.offset");
  if (text(::crypt_get_cipher(device)) != spec.cipher ||
      text(::crypt_get_cipher_mode(device)) != spec.mode)
    return differs("segments.0.encryption");
  if (::crypt_get_sector_size(device) != static_cast<int>(profile.sector_bytes))
    return differs("segments.0.sector_size");
  if (::crypt_get_iv_offset(device) != profile.iv_tweak) return differs("segments.0.iv_tweak");
  std::uint64_t metadata_bytes = 0;
  std::uint64_t keyslots_bytes = 0;
  if (::crypt_get_metadata_size(device, &metadata_bytes, &keyslots_bytes) < 0 ||
      metadata_bytes != profile.metadata_bytes || keyslots_bytes != profile.keyslots_bytes)
    return differs("metadata size");
  return {};
}

Result<void> CryptVolume::verify(const SecretBytes& key) {
  const int r = ::crypt_volume_key_verify(device_.get(), key_of(key), key.size());
  if (r == -EPERM || r == -EINVAL)
    return fail(Reason::kWrongKey, "the key is not the volume key of this header");
  if (r < 0) return say(Reason::kActivationFailed, "check the volume key", r);
  return {};
}

Result<void> CryptVolume::activate(const Activation& activation, const SecretBytes& key) {
  auto* const device = device_.get();
  const int r = ::crypt_activate_by_volume_key(device, activation.mapping.c_str(), key_of(key),
                                               key.size(), activation_flags(activation));
  drop_keyring_key(::crypt_get_uuid(device));
  if (r < 0) return say(activation_reason(r), "activate " + activation.mapping, r);
  return {};
}

Result<void> make_process_keyring() {
  const auto ring = ::syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1);
  if (ring < 0) return fail_errno(errno, "make the keyring of this process", Reason::kUnsupported);
  return {};
}

}  // namespace coffer::agent
