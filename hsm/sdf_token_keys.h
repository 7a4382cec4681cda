// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "hsm/sdf_session.h"

namespace coffer::hsm {

// The keys of a Coffer token on an SDF device, beside its key encryption key: session keys that the
// device made, each for one use.
enum class SdfKeyRole : std::uint8_t {
  kSeal = 0,       // HMAC over records.
  kWrap = 1,       // HMAC over wrapped keys.
  kRootedMac = 2,  // HMAC over the material of rooted keys.
  kRooted = 3,     // SM4 over the material of rooted keys.
};

// Where HMACs are computed.
enum class SdfMacPlace : std::uint8_t {
  kDevice = 1,  // SDF_HMACInit() (GM/T 0018-2023): the keys never leave the device but wrapped.
  // The device has no HMAC. A MAC key is what the role's session key makes of a fixed text; it lies
  // in locked memory while the vault runs, like a rooted key.
  kMemory = 2,
};

// The file that keeps these keys, wrapped under the device's key encryption key, in the vault's
// state folder: docs/formats/sdf-keys.md. No secret stands in it, but without it no record of this
// token opens.
struct SdfKeysFile {
  static constexpr std::size_t kRoles = 4;
  static constexpr std::size_t kEncodedBytesMax = 4096;
  using Check = std::array<std::byte, SdfSession::kMacBytes>;

  SdfMacPlace place = SdfMacPlace::kDevice;
  std::uint32_t kek = 1;
  std::array<Bytes, kRoles> wrapped;
  Check check{};  // HMAC by the seal key over the rest: another key encryption key gives another.

  // What `check` covers.
  Bytes checked_part() const;
  Bytes encode() const;
  // kStoreDamaged: not what encode() gives.
  static Result<SdfKeysFile> decode(ByteView bytes);

  friend bool operator==(const SdfKeysFile&, const SdfKeysFile&) = default;
};

// SdfTokenKeys are the keys of an open device. Immutable, so that threads share it; sessions are
// their callers'.
class SdfTokenKeys {
 public:
  using Mac = std::array<std::byte, SdfSession::kMacBytes>;

  // Reads the file at `path` and proves that the device's key encryption key `kek` opens it.
  //   kNoSuchKey      there is no such file: the token was not set up.
  //   kStoreDamaged   it is not such a file.
  //   kConfigInvalid  it was made with another index of the key encryption key.
  //   kHsmAbsent      another key encryption key is behind that index: it is another device.
  //   kUnsupported    HMACs were computed by the device, whose library has none any more.
  //   as read_file(), and as the table of sdf_errors.h
  static Result<SdfTokenKeys> open(const std::string& path, unsigned kek, SdfSession& session);

  // Makes new keys in the device and the file at `path`.
  //   kInvalidArgs    the file is there already: what lies under its keys would be lost.
  //   as write_file_durably(), and as the table of sdf_errors.h
  static Result<SdfTokenKeys> make(const std::string& path, unsigned kek, SdfMacPlace place,
                                   SdfSession& session);

  SdfMacPlace place() const noexcept { return file_.place; }
  // "sdf-" and the first 8 bytes of the check value, in hexadecimal.
  std::string root_id() const;
  // The wrapped session key of `role`, for SdfSession.
  const Bytes& wrapped(SdfKeyRole role) const { return file_.wrapped.at(index(role)); }

  // HMAC-SM3. In place kMemory `session` is not used and may be null.
  unsigned long mac(SdfSession* session, SdfKeyRole role, ByteView message, Mac& out) const;

 private:
  explicit SdfTokenKeys(SdfKeysFile file) : file_(std::move(file)) {}
  static std::size_t index(SdfKeyRole role) { return static_cast<std::size_t>(role); }
  Result<void> load(SdfSession& session);

  SdfKeysFile file_;
  std::array<SecretBytes, 3> in_memory_;  // By role; of place kMemory.
};

}  // namespace coffer::hsm
