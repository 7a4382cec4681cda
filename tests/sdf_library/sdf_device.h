// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/sdf_library/sdf_crypto.h"

namespace coffer::tests::sdf {

// A session: what belongs to one and goes with it. Session keys are valid in their own session
// alone, which is the least that the standard promises.
struct Session {
  std::map<const void*, std::vector<std::byte>> keys;
  std::optional<Sm3> hash;
  std::optional<Sm3> hmac;
  std::set<unsigned> rights;  // Indexes of private keys that may be used.
};

// SdfDevice is the device behind the library: a folder named by COFFER_TEST_SDF, read anew for
// each key, so that a test may exchange it:
//
//   serial            its serial number, at most 16 letters
//   kek-N             key encryption key N: 16 bytes
//   sign-N, enc-N     private keys of pair N: 32 bytes, big-endian
//   password-N        what SDF_GetPrivateKeyAccessRight() wants for pair N; absent: no right needed
//
// Thread-safe, but for what is done with one session.
class SdfDevice {
 public:
  static SdfDevice& instance();

  bool there() const;
  std::string serial() const;
  std::optional<std::vector<std::byte>> read(const std::string& name, std::size_t size_bytes) const;
  std::optional<std::vector<std::byte>> password(unsigned index) const;

  void* open_session();
  bool close_session(void* handle);
  // Null: not a session, or no longer one.
  std::shared_ptr<Session> session(void* handle);
  void drop_sessions();

 private:
  SdfDevice();

  const std::filesystem::path folder_;
  std::mutex mutex_;  // Guards what follows.
  std::map<void*, std::shared_ptr<Session>> sessions_;
  std::uintptr_t last_handle_ = 0;
};

}  // namespace coffer::tests::sdf
