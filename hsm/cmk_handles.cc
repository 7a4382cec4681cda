// SPDX-License-Identifier: Apache-2.0
#include "hsm/cmk_handles.h"

#include <algorithm>

#include "hsm/pkcs11_template.h"

namespace coffer::hsm {
namespace {

// Every attribute is stated: the root key's unwrap template refuses one that is left to a default.
CK_RV unwrap(const ObjectAccess& access, CK_OBJECT_HANDLE root, ByteView material,
             CK_OBJECT_HANDLE& out) {
  Template wanted;
  wanted.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_AES);
  wanted.flag(CKA_TOKEN, false).flag(CKA_PRIVATE, true).flag(CKA_SENSITIVE, true);
  wanted.flag(CKA_EXTRACTABLE, false).flag(CKA_ENCRYPT, true).flag(CKA_DECRYPT, true);
  wanted.flag(CKA_WRAP, false).flag(CKA_UNWRAP, false).flag(CKA_SIGN, false);
  wanted.flag(CKA_VERIFY, false).flag(CKA_DERIVE, false);
  CK_MECHANISM mechanism{CKM_AES_KEY_WRAP, nullptr, 0};
  const std::scoped_lock lock(access.objects);
  return access.module.call(&CK_FUNCTION_LIST::C_UnwrapKey, access.owner, &mechanism, root,
                            p11_bytes(material), CK_ULONG{material.size()}, wanted.data(),
                            wanted.size(), &out);
}

}  // namespace

CK_RV CmkHandles::get(const ObjectAccess& access, CK_OBJECT_HANDLE root, const Name& name,
                      ByteView material, Handle& out) {
  const auto digest = crypto::sha256(material);
  const std::scoped_lock lock(mutex_);
  if (const auto found = entries_.find(digest); found != entries_.end()) {
    found->second.used = ++uses_;
    out = found->second.handle;
    return CKR_OK;
  }
  CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
  const CK_RV rv = unwrap(access, root, material, object);
  if (rv != CKR_OK) return rv;
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
