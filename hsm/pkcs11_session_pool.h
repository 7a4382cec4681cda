// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <p11-kit/pkcs11.h>

#include <condition_variable>
#include <mutex>
#include <vector>

#include "hsm/pkcs11_module.h"

namespace coffer::hsm {

// SessionPool holds the sessions of one token: the owner, which is opened first and closed last
// because session objects die with the session that made them, and others that are taken for one
// operation each.
//
// take() and the leases may be used by many threads; open() and close() by one, while no lease is
// out.
class SessionPool {
 public:
  // `sessions_max` counts the pooled ones, without the owner.
  SessionPool(const Pkcs11Module& module, CK_SLOT_ID slot, std::size_t sessions_max)
      : module_(module), slot_(slot), sessions_max_(sessions_max) {}
  ~SessionPool() { close(); }
  SessionPool(const SessionPool&) = delete;
  SessionPool& operator=(const SessionPool&) = delete;

  // Opens the owner session. For setup it may be one that can write token objects.
  enum class Access : bool { kReadOnly, kReadWrite };
  CK_RV open(Access access = Access::kReadOnly);
  // Closes all, the owner last; errors are ignored, as what is closed is not used again.
  void close();

  CK_SESSION_HANDLE owner() const noexcept { return owner_; }

  // A session that nobody else uses meanwhile. Given back when destroyed; closed instead when
  // spoiled, as a session that failed may have an operation under way.
  class Lease {
   public:
    Lease() = default;
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease();
    CK_SESSION_HANDLE handle() const noexcept { return handle_; }
    void spoil() noexcept { spoilt_ = true; }

   private:
    friend class SessionPool;
    SessionPool* pool_ = nullptr;
    CK_SESSION_HANDLE handle_ = CK_INVALID_HANDLE;
    bool spoilt_ = false;
  };

  // Waits while sessions_max are out, or while the token gives no more and at least one is out.
  CK_RV take(Lease& into);

 private:
  void give_back(CK_SESSION_HANDLE handle, bool spoilt);

  const Pkcs11Module& module_;
  const CK_SLOT_ID slot_;
  const std::size_t sessions_max_;
  CK_SESSION_HANDLE owner_ = CK_INVALID_HANDLE;

  std::mutex mutex_;  // Guards idle_ and out_.
  std::condition_variable returned_;
  std::vector<CK_SESSION_HANDLE> idle_;
  std::size_t out_ = 0;
};

}  // namespace coffer::hsm
