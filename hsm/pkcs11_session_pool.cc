// SPDX-License-Identifier: Apache-2.0
#include "hsm/pkcs11_session_pool.h"

#include <utility>

namespace coffer::hsm {

CK_RV SessionPool::open(Access access) {
  const CK_FLAGS flags = CKF_SERIAL_SESSION | (access == Access::kReadWrite ? CKF_RW_SESSION : 0);
  return module_.call(&CK_FUNCTION_LIST::C_OpenSession, slot_, flags, nullptr, nullptr, &owner_);
}

void SessionPool::close() {
  const std::scoped_lock lock(mutex_);
  for (const auto handle : std::exchange(idle_, {}))
    module_.call(&CK_FUNCTION_LIST::C_CloseSession, handle);
  if (owner_ == CK_INVALID_HANDLE) return;
  module_.call(&CK_FUNCTION_LIST::C_CloseSession, std::exchange(owner_, CK_INVALID_HANDLE));
}

CK_RV SessionPool::take(Lease& into) {
  std::unique_lock lock(mutex_);
  for (;;) {
    returned_.wait(lock, [this] { return !idle_.empty() || out_ < sessions_max_; });
    if (!idle_.empty()) {
      into.handle_ = idle_.back();
      idle_.pop_back();
      break;
    }
    // Opened under the lock: SoftHSM drops a session that is opened while another is closed.
    const CK_RV rv = module_.call(&CK_FUNCTION_LIST::C_OpenSession, slot_,
                                  CK_FLAGS{CKF_SERIAL_SESSION}, nullptr, nullptr, &into.handle_);
    if (rv == CKR_OK) break;
    if (rv != CKR_SESSION_COUNT || out_ == 0) return rv;
    const std::size_t before = out_;
    returned_.wait(lock, [&] { return !idle_.empty() || out_ < before; });
  }
  ++out_;
  into.pool_ = this;
  return CKR_OK;
}

void SessionPool::give_back(CK_SESSION_HANDLE handle, bool spoilt) {
  {
    const std::scoped_lock lock(mutex_);
    --out_;
    if (spoilt)
      module_.call(&CK_FUNCTION_LIST::C_CloseSession, handle);
    else
      idle_.push_back(handle);
  }
  returned_.notify_all();
}

SessionPool::Lease::~Lease() {
  if (pool_ != nullptr) pool_->give_back(handle_, spoilt_);
}

}  // namespace coffer::hsm
