// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/base/unique_fd.h"
#include "core/luks2/profile.h"

struct crypt_device;

namespace coffer::agent {

// CryptVolume is the one place that knows libcryptsetup. It is not thread-safe and keeps state for
// the whole process, so it is used in one-shot processes alone (one_shot.h), one volume in each.
//
// The header is always an anonymous file of ours: bytes that were checked, or that are being made.
// The library's own locks and its repair of a bad copy are off, for there is nobody to lock out and
// nothing to repair.
class CryptVolume {
 public:
  struct Paths {
    std::string header;  // "/proc/self/fd/5"
    std::string data;    // "/dev/vdb"
  };
  struct Activation {
    std::string mapping;
    bool read_only = false;
    bool allow_discards = false;
    bool no_read_workqueue = false;
    bool no_write_workqueue = false;
  };
  struct Labels {
    std::string label;
    std::string token_json;
  };

  // kHeaderUnusual: the library refuses a header that our parser took; its words.
  static Result<CryptVolume> load(const Paths& paths);

  // Makes a LUKS2 header for `key` in the file `paths.header`, with no keyslot, a cheap digest and
  // the token. `paths.data` stands for the data device: its length counts, nothing is written to
  // it.
  //   kTokenInvalid, kInvalidArgs, kUnsupported: the cipher.
  static Result<void> format(const Paths& paths, const luks2::Profile& profile,
                             const SecretBytes& key, const Labels& labels);

  // The same for who asks nothing of the data device.
  static Result<CryptVolume> load_header(const std::string& path);

  // Puts the token in the place of the one with that number, in both copies of the header.
  //   kTokenSpace  there is no room for it.   kTokenInvalid: the library refuses it; its words.
  Result<void> replace_token(std::uint32_t id, const std::string& token_json);

  // What the library read is what `profile` says. kProfileMismatch names the field.
  Result<void> require_profile(const luks2::Profile& profile) const;

  // kWrongKey.
  Result<void> verify(const SecretBytes& key);

  // Hands the key to the kernel's keyring, makes the mapping, and takes the key out of the keyring
  // again. Waits for udev where it runs.
  //   kWrongKey, kBusy, kAlreadyUnlocked: the name is taken, kDeviceAbsent, kActivationFailed
  Result<void> activate(const Activation& activation, const SecretBytes& key);

 private:
  struct Free {
    void operator()(crypt_device* device) const noexcept;
  };
  using Handle = std::unique_ptr<crypt_device, Free>;

  explicit CryptVolume(Handle device) noexcept : device_(std::move(device)) {}
  static Result<Handle> open(const Paths& paths);
  static Result<CryptVolume> load(Handle device);

  Handle device_;
};

// Makes the keyring of this process exist, before any thread or library needs it: what is put there
// later is then seen by all.
Result<void> make_process_keyring();

}  // namespace coffer::agent
