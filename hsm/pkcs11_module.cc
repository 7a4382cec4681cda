// SPDX-License-Identifier: Apache-2.0
#include "hsm/pkcs11_module.h"

#include <p11-kit/p11-kit.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <string_view>

#include "hsm/pkcs11_errors.h"

namespace coffer::hsm {
namespace {

constexpr std::size_t kSlotsMax = 256;
constexpr CK_ULONG kMechanismsMax = 4096;

template <std::size_t N>
std::string unpadded(const unsigned char (&field)[N]) {
  const std::string_view text(reinterpret_cast<const char*>(field), N);
  const auto last = text.find_last_not_of(std::string_view(" \0", 2));
  return std::string(text.substr(0, last == std::string_view::npos ? 0 : last + 1));
}

// libtpms, behind swtpm and the TPMs of virtual machines: a real TPM's maker names itself
// otherwise.
bool is_software_tpm(const TokenIdentity& token) {
  return token.manufacturer == "IBM" && token.model.starts_with("SW ");
}

std::mutex& users_mutex() {
  static std::mutex mutex;
  return mutex;
}

// How many objects have initialised a library. Under users_mutex().
std::size_t& users_of(const CK_FUNCTION_LIST* functions) {
  static std::map<const CK_FUNCTION_LIST*, std::size_t> users;
  return users[functions];
}

}  // namespace

Result<std::unique_ptr<Pkcs11Module>> Pkcs11Module::load(const std::string& path,
                                                         CallWatch* watch) {
  if (!path.starts_with('/'))
    return fail(Reason::kConfigInvalid, "the path of a PKCS#11 module must be absolute");
  // Unmanaged: p11-kit's own wrappers would count initialisations and guard forks for programs that
  // share modules; this process has one and never forks.
  CK_FUNCTION_LIST* functions = ::p11_kit_module_load(path.c_str(), P11_KIT_MODULE_UNMANAGED);
  if (functions == nullptr) {
    const char* why = ::p11_kit_message();
    return fail(Reason::kConfigInvalid,
                "load PKCS#11 module " + path + ": " + (why != nullptr ? why : "no reason given"));
  }
  return std::unique_ptr<Pkcs11Module>(new Pkcs11Module(functions, watch));
}

Pkcs11Module::~Pkcs11Module() {
  finalize();
  ::p11_kit_module_release(functions_);
}

CK_RV Pkcs11Module::initialize() {
  if (initialized_) return CKR_OK;
  const std::scoped_lock lock(users_mutex());
  auto& users = users_of(functions_);
  if (users == 0) {
    CK_C_INITIALIZE_ARGS args{};
    args.flags = CKF_OS_LOCKING_OK;
    const CK_RV rv = call(&CK_FUNCTION_LIST::C_Initialize, static_cast<void*>(&args));
    if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED) return rv;
  }
  ++users;
  initialized_ = true;
  return CKR_OK;
}

void Pkcs11Module::finalize() {
  if (!initialized_) return;
  initialized_ = false;
  const std::scoped_lock lock(users_mutex());
  if (--users_of(functions_) == 0) call(&CK_FUNCTION_LIST::C_Finalize, nullptr);
}

CK_RV Pkcs11Module::list_slots(std::vector<CK_SLOT_ID>& out) const {
  CK_ULONG count = 0;
  CK_RV rv = call(&CK_FUNCTION_LIST::C_GetSlotList, CK_BBOOL{0}, nullptr, &count);
  if (rv != CKR_OK) return rv;
  if (count > kSlotsMax) return CKR_GENERAL_ERROR;
  out.resize(count);
  rv = call(&CK_FUNCTION_LIST::C_GetSlotList, CK_BBOOL{0}, out.data(), &count);
  if (rv == CKR_OK && count <= out.size()) out.resize(count);
  return rv;
}

CK_RV Pkcs11Module::list_mechanisms(CK_SLOT_ID slot, std::set<CK_MECHANISM_TYPE>& out) const {
  CK_ULONG count = 0;
  CK_RV rv = call(&CK_FUNCTION_LIST::C_GetMechanismList, slot, nullptr, &count);
  if (rv != CKR_OK) return rv;
  if (count > kMechanismsMax) return CKR_GENERAL_ERROR;
  std::vector<CK_MECHANISM_TYPE> list(count);
  rv = call(&CK_FUNCTION_LIST::C_GetMechanismList, slot, list.data(), &count);
  if (rv != CKR_OK) return rv;
  out = {list.begin(),
         list.begin() + static_cast<std::ptrdiff_t>(std::min<CK_ULONG>(count, list.size()))};
  return CKR_OK;
}

bool Pkcs11Module::is_of_tpm() const {
  CK_INFO info{};
  if (call(&CK_FUNCTION_LIST::C_GetInfo, &info) != CKR_OK) return false;
  return unpadded(info.manufacturerID) == "tpm2-software.github.io" ||
         unpadded(info.libraryDescription).starts_with("TPM2.0");
}

CK_RV Pkcs11Module::read_token(CK_SLOT_ID slot, TokenSlot& out) const {
  CK_SLOT_INFO slot_info{};
  CK_RV rv = call(&CK_FUNCTION_LIST::C_GetSlotInfo, slot, &slot_info);
  if (rv != CKR_OK) return rv;
  if ((slot_info.flags & CKF_TOKEN_PRESENT) == 0) return CKR_TOKEN_NOT_PRESENT;
  CK_TOKEN_INFO info{};
  rv = call(&CK_FUNCTION_LIST::C_GetTokenInfo, slot, &info);
  if (rv != CKR_OK) return rv;
  out.slot = slot;
  out.identity = {unpadded(info.label), unpadded(info.manufacturerID), unpadded(info.model),
                  unpadded(info.serialNumber), slot};
  out.token_flags = info.flags;
  out.hardware = (slot_info.flags & CKF_HW_SLOT) != 0 && !is_software_tpm(out.identity);
  return CKR_OK;
}

Result<TokenSlot> Pkcs11Module::find_token(const Pkcs11Uri& uri) const {
  std::vector<CK_SLOT_ID> slots;
  if (const CK_RV rv = list_slots(slots); rv != CKR_OK) return fail_return(rv, "list slots");

  std::optional<TokenSlot> found;
  for (const CK_SLOT_ID slot : slots) {
    TokenSlot candidate;
    // A slot that cannot be read may be empty or not ours; ours missing is told below.
    if (read_token(slot, candidate) != CKR_OK) continue;
    if ((candidate.token_flags & CKF_TOKEN_INITIALIZED) == 0) continue;
    if (!uri.matches(candidate.identity)) continue;
    if (found) return fail(Reason::kConfigInvalid, "several tokens match the configured URI");
    found = std::move(candidate);
  }
  if (!found) return fail(Reason::kHsmAbsent, "no token matches the configured URI");
  return *found;
}

}  // namespace coffer::hsm
