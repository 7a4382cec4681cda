// SPDX-License-Identifier: Apache-2.0
#include "hsm/cmk_handles.h"

#include <algorithm>

namespace coffer::hsm {

CK_RV CmkHandles::get(const ObjectAccess& access, const Name& name, ByteView material,
                      const Unwrap& unwrap, Handle& out) {
  const auto digest = crypto::sha256(material);
  const std::scoped_lock lock(mutex_);
  if (const auto found = entries_.find(digest); found != entries_.end()) {
    found->second.used = ++uses_;
    out = found->second.handle;
    return CKR_OK;
  }
  CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
  {
    const std::scoped_lock objects(access.objects);
    const CK_RV rv = unwrap(object);
    if (rv != CKR_OK) return rv;
  }
  const auto destroy = [access, lives = session_lives_](const CK_OBJECT_HANDLE* handle) {
    const std::unique_ptr<const CK_OBJECT_HANDLE> owned(handle);
    if (!*lives) return;
    const std::scoped_lock objects(access.objects);
    access.module.call(&CK_FUNCTION_LIST::C_DestroyObject, access.owner, *owned);
  };
  out = Handle(std::make_unique<const CK_OBJECT_HANDLE>(object).release(), destroy);
  if (forgotten_.contains(name)) return CKR_OK;
  make_room();
  entries_.emplace(digest, Entry{out, name, ++uses_});
  return CKR_OK;
}

void CmkHandles::drop(const Name& name) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(entries_, [&](const auto& entry) { return entry.second.name == name; });
}

void CmkHandles::forget(const Name& name) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(entries_, [&](const auto& entry) { return entry.second.name == name; });
  if (forgotten_.size() >= kForgottenMax) forgotten_.clear();
  forgotten_.insert(name);
}

void CmkHandles::make_room() {
  if (entries_.size() < count_max_) return;
  const auto oldest =
      std::ranges::min_element(entries_, {}, [](const auto& entry) { return entry.second.used; });
  entries_.erase(oldest);
}

void CmkHandles::forget_all() {
  const std::scoped_lock lock(mutex_);
  *session_lives_ = false;
  entries_.clear();
  session_lives_ = std::make_shared<bool>(true);
}

std::size_t CmkHandles::size() const {
  const std::scoped_lock lock(mutex_);
  return entries_.size();
}

}  // namespace coffer::hsm
