// SPDX-License-Identifier: Apache-2.0
// A PKCS#11 module for tests: passes every call on to SoftHSM (COFFER_TEST_PKCS11_REAL), after the
// faults that a script asks for. fault_script.h has the script's language.
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>

#include <algorithm>
#include <cstdlib>
#include <span>
#include <vector>

#include "tests/pkcs11_fault/fault_effects.h"
#include "tests/pkcs11_fault/fault_script.h"

namespace coffer::tests {
namespace {

// What a call gives back, for faults that spoil it.
struct Output {
  CK_BYTE* bytes = nullptr;
  CK_ULONG size = 0;
};

CK_FUNCTION_LIST* real() {
  static CK_FUNCTION_LIST* const kList = [] {
    const char* path = std::getenv("COFFER_TEST_PKCS11_REAL");
    void* module =
        ::dlopen(path != nullptr ? path : "/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
    if (module == nullptr) std::abort();
    auto* const get = reinterpret_cast<CK_C_GetFunctionList>(::dlsym(module, "C_GetFunctionList"));
    CK_FUNCTION_LIST* found = nullptr;
    if (get == nullptr || get(&found) != CKR_OK) std::abort();
    return found;
  }();
  return kList;
}

void drop_sessions() {
  CK_ULONG count = 0;
  if (real()->C_GetSlotList(CK_TRUE, nullptr, &count) != CKR_OK) return;
  std::vector<CK_SLOT_ID> slots(count);
  if (real()->C_GetSlotList(CK_TRUE, slots.data(), &count) != CKR_OK) return;
  for (const auto slot : slots) real()->C_CloseAllSessions(slot);
}

// The faults of one call around the real one.
template <class Call>
CK_RV suffer(std::string_view function, const Call& call, const Output* output = nullptr) {
  auto& script = FaultScript::instance();
  const auto faults = script.begin_call(function);
  if (script.was_removed()) drop_sessions();
  if (const auto value = suffer_before(faults, drop_sessions)) return *value;
  const CK_RV rv = call();
  const bool gave = rv == CKR_OK && output != nullptr && output->bytes != nullptr;
  suffer_after(faults, gave ? std::as_writable_bytes(std::span(output->bytes, output->size))
                            : std::span<std::byte>());
  return rv;
}

// The plain proxy of one function. When the token is removed, whatever needs a session fails.
enum class Needs { kNothing, kToken };

template <auto Member, Needs Need, class Function>
struct Proxy;
template <auto Member, Needs Need, class... Arguments>
struct Proxy<Member, Need, CK_RV (*)(Arguments...)> {
  static const char* name;
  static CK_RV call(Arguments... arguments) {
    if (Need == Needs::kToken && FaultScript::instance().removed()) {
      FaultScript::instance().begin_call(name);
      return CKR_DEVICE_REMOVED;
    }
    return suffer(name, [&] { return (real()->*Member)(arguments...); });
  }
};
template <auto Member, Needs Need, class... Arguments>
const char* Proxy<Member, Need, CK_RV (*)(Arguments...)>::name = "";

CK_RV get_slot_info(CK_SLOT_ID slot, CK_SLOT_INFO* info) {
  const CK_RV rv = suffer("C_GetSlotInfo", [&] { return real()->C_GetSlotInfo(slot, info); });
  if (rv == CKR_OK && FaultScript::instance().removed()) info->flags &= ~CKF_TOKEN_PRESENT;
  return rv;
}

CK_RV get_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO* info) {
  auto& script = FaultScript::instance();
  const CK_RV rv = suffer("C_GetTokenInfo", [&] { return real()->C_GetTokenInfo(slot, info); });
  if (script.removed()) return CKR_TOKEN_NOT_PRESENT;
  const int left = script.pin_tries_left();
  if (rv != CKR_OK || left < 0) return rv;
  info->flags &= ~(CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED);
  if (left == 0)
    info->flags |= CKF_USER_PIN_LOCKED;
  else if (left < script.pin_tries_max())
    info->flags |= CKF_USER_PIN_COUNT_LOW | (left == 1 ? CKF_USER_PIN_FINAL_TRY : 0);
  return rv;
}

CK_RV get_mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE* list, CK_ULONG* count) {
  if (FaultScript::instance().removed()) return CKR_TOKEN_NOT_PRESENT;
  const CK_RV rv =
      suffer("C_GetMechanismList", [&] { return real()->C_GetMechanismList(slot, list, count); });
  if (rv != CKR_OK || list == nullptr) return rv;
  auto* const end = std::remove_if(list, list + *count, [](CK_MECHANISM_TYPE type) {
    return FaultScript::instance().hides(type);
  });
  *count = static_cast<CK_ULONG>(end - list);
  return rv;
}

CK_RV login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_BYTE* pin, CK_ULONG pin_size) {
  auto& script = FaultScript::instance();
  if (script.removed()) return CKR_DEVICE_REMOVED;
  const CK_RV rv = suffer("C_Login", [&] {
    const int left = script.pin_tries_left();
    if (left == 0) return CK_RV{CKR_PIN_LOCKED};
    const CK_RV judged = real()->C_Login(session, user, pin, pin_size);
    if (left > 0 && judged == CKR_PIN_INCORRECT) script.set_pin_tries_left(left - 1);
    if (left > 0 && judged == CKR_OK) script.set_pin_tries_left(script.pin_tries_max());
    // Logged here, so that a call that a fault kept from the token does not count.
    if (user == CKU_USER) script.log(judged == CKR_OK ? "login good" : "login bad");
    return judged;
  });
  return rv;
}

CK_RV init_cipher(const char* name, CK_C_EncryptInit function, CK_SESSION_HANDLE session,
                  CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  if (FaultScript::instance().removed()) return CKR_DEVICE_REMOVED;
  if (FaultScript::instance().hides(mechanism->mechanism)) return CKR_MECHANISM_INVALID;
  return suffer(name, [&] { return function(session, mechanism, key); });
}
CK_RV encrypt_init(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  return init_cipher("C_EncryptInit", real()->C_EncryptInit, session, mechanism, key);
}
CK_RV decrypt_init(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  return init_cipher("C_DecryptInit", real()->C_DecryptInit, session, mechanism, key);
}

CK_RV transform(const char* name, CK_C_Encrypt function, CK_SESSION_HANDLE session, CK_BYTE* in,
                CK_ULONG in_size, CK_BYTE* out, CK_ULONG* out_size) {
  if (FaultScript::instance().removed()) return CKR_DEVICE_REMOVED;
  Output output{out, 0};
  return suffer(
      name,
      [&] {
        const CK_RV rv = function(session, in, in_size, out, out_size);
        output.size = *out_size;
        return rv;
      },
      &output);
}
CK_RV encrypt(CK_SESSION_HANDLE session, CK_BYTE* in, CK_ULONG in_size, CK_BYTE* out,
              CK_ULONG* out_size) {
  return transform("C_Encrypt", real()->C_Encrypt, session, in, in_size, out, out_size);
}
CK_RV decrypt(CK_SESSION_HANDLE session, CK_BYTE* in, CK_ULONG in_size, CK_BYTE* out,
              CK_ULONG* out_size) {
  return transform("C_Decrypt", real()->C_Decrypt, session, in, in_size, out, out_size);
}
CK_RV sign(CK_SESSION_HANDLE session, CK_BYTE* in, CK_ULONG in_size, CK_BYTE* out,
           CK_ULONG* out_size) {
  return transform("C_Sign", real()->C_Sign, session, in, in_size, out, out_size);
}
CK_RV generate_random(CK_SESSION_HANDLE session, CK_BYTE* out, CK_ULONG size) {
  if (FaultScript::instance().removed()) return CKR_DEVICE_REMOVED;
  const Output output{out, size};
  return suffer(
      "C_GenerateRandom", [&] { return real()->C_GenerateRandom(session, out, size); }, &output);
}

CK_RV wrap_key(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE wrapping,
               CK_OBJECT_HANDLE key, CK_BYTE* out, CK_ULONG* out_size) {
  if (FaultScript::instance().removed()) return CKR_DEVICE_REMOVED;
  Output output{out, 0};
  return suffer(
      "C_WrapKey",
      [&] {
        const CK_RV rv = real()->C_WrapKey(session, mechanism, wrapping, key, out, out_size);
        output.size = *out_size;
        return rv;
      },
      &output);
}

CK_RV get_attribute_value(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                          CK_ATTRIBUTE* attributes, CK_ULONG count) {
  if (FaultScript::instance().removed()) return CKR_DEVICE_REMOVED;
  for (CK_ULONG i = 0; i < count; ++i) {
    if (attributes[i].type == CKA_VALUE) FaultScript::instance().log("value asked for");
  }
  return suffer("C_GetAttributeValue",
                [&] { return real()->C_GetAttributeValue(session, object, attributes, count); });
}

CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void* application, CK_NOTIFY notify,
                   CK_SESSION_HANDLE* session) {
  if (FaultScript::instance().removed()) return CKR_TOKEN_NOT_PRESENT;
  return suffer("C_OpenSession",
                [&] { return real()->C_OpenSession(slot, flags, application, notify, session); });
}

CK_FUNCTION_LIST* make_list() {
  static CK_FUNCTION_LIST list = *real();
#define COFFER_PROXY(function, need)                                               \
  {                                                                                \
    using Own = Proxy<&CK_FUNCTION_LIST::function, need, decltype(list.function)>; \
    Own::name = #function;                                                         \
    list.function = Own::call;                                                     \
  }
  COFFER_PROXY(C_Initialize, Needs::kNothing)
  COFFER_PROXY(C_Finalize, Needs::kNothing)
  COFFER_PROXY(C_GetSlotList, Needs::kNothing)
  COFFER_PROXY(C_InitToken, Needs::kNothing)
  COFFER_PROXY(C_CloseSession, Needs::kNothing)
  COFFER_PROXY(C_CloseAllSessions, Needs::kNothing)
  COFFER_PROXY(C_InitPIN, Needs::kToken)
  COFFER_PROXY(C_Logout, Needs::kToken)
  COFFER_PROXY(C_GetSessionInfo, Needs::kToken)
  COFFER_PROXY(C_CreateObject, Needs::kToken)
  COFFER_PROXY(C_DestroyObject, Needs::kToken)
  COFFER_PROXY(C_FindObjectsInit, Needs::kToken)
  COFFER_PROXY(C_FindObjects, Needs::kToken)
  COFFER_PROXY(C_FindObjectsFinal, Needs::kToken)
  COFFER_PROXY(C_SignInit, Needs::kToken)
  COFFER_PROXY(C_GenerateKey, Needs::kToken)
  COFFER_PROXY(C_GenerateKeyPair, Needs::kToken)
  COFFER_PROXY(C_GetMechanismInfo, Needs::kToken)
  COFFER_PROXY(C_UnwrapKey, Needs::kToken)
#undef COFFER_PROXY
  list.C_GetSlotInfo = get_slot_info;
  list.C_GetTokenInfo = get_token_info;
  list.C_GetMechanismList = get_mechanism_list;
  list.C_Login = login;
  list.C_OpenSession = open_session;
  list.C_EncryptInit = encrypt_init;
  list.C_Encrypt = encrypt;
  list.C_DecryptInit = decrypt_init;
  list.C_Decrypt = decrypt;
  list.C_Sign = sign;
  list.C_GenerateRandom = generate_random;
  list.C_WrapKey = wrap_key;
  list.C_GetAttributeValue = get_attribute_value;
  return &list;
}

}  // namespace
}  // namespace coffer::tests

extern "C" __attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST** list) {
  static CK_FUNCTION_LIST* const kOwn = coffer::tests::make_list();
  *list = kOwn;
  return CKR_OK;
}
