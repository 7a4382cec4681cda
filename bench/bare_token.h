// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "hsm/pkcs11_module.h"

namespace coffer::bench {

// BareToken is what a program does that calls a token's module itself, for AES-256-GCM of small
// texts: sessions with a key of their own, and nothing around the calls. Each session is used by
// one thread at a time. Throws std::runtime_error when a call fails.
class BareToken {
 public:
  // The token `label` of the module at `module_path`, with the user's `pin`, and so many sessions.
  BareToken(const std::string& module_path, const std::string& label, std::string pin,
            std::size_t sessions);
  ~BareToken();
  BareToken(const BareToken&) = delete;
  BareToken& operator=(const BareToken&) = delete;

  Bytes encrypt(std::size_t session, ByteView text);
  Bytes decrypt(std::size_t session, ByteView sealed);  // As encrypt() gave it.

 private:
  struct Session {
    CK_SESSION_HANDLE handle = 0;
    CK_OBJECT_HANDLE key = 0;
    std::uint64_t nonce = 0;
  };
  void make_key(Session& session);

  std::unique_ptr<hsm::Pkcs11Module> module_;
  std::vector<Session> sessions_;
};

}  // namespace coffer::bench
