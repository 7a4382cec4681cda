// SPDX-License-Identifier: Apache-2.0
#include "hsm/token_setup.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "hsm/pkcs11_errors.h"
#include "hsm/pkcs11_session_pool.h"
#include "hsm/token_keys.h"
#include "hsm/token_login.h"

namespace coffer::hsm {
namespace {

constexpr std::size_t kLabelBytes = 32;
// In the order they are made: the root key last.
constexpr auto kRoles =
    std::to_array<TokenKeyRole>({TokenKeyRole::kSeal, TokenKeyRole::kWrap, TokenKeyRole::kRooted,
                                 TokenKeyRole::kPrivate, TokenKeyRole::kRoot});

// Letters and digits alone: some tokens take nothing else in a PIN.
Result<SecretBytes> draw_officer_pin() {
  constexpr std::string_view kAlphabet = "0123456789abcdefghjkmnpqrstvwxyz";
  auto pin = SecretBytes::random(24);
  if (!pin) return pin;
  for (auto& b : pin->reveal_mutable())
    b = static_cast<std::byte>(kAlphabet[std::to_integer<std::size_t>(b) % kAlphabet.size()]);
  return pin;
}

Result<CK_SLOT_ID> find_free_slot(const Pkcs11Module& module) {
  std::vector<CK_SLOT_ID> slots;
  if (const CK_RV rv = module.list_slots(slots); rv != CKR_OK) return fail_return(rv, "list slots");
  for (const CK_SLOT_ID slot : slots) {
    TokenSlot found;
    if (module.read_token(slot, found) != CKR_OK) continue;
    if ((found.token_flags & CKF_TOKEN_INITIALIZED) == 0) return slot;
  }
  return fail(Reason::kHsmFailed, "the module has no slot with an empty token");
}

CK_RV log_in(const Pkcs11Module& module, CK_SESSION_HANDLE session, CK_USER_TYPE user,
             const SecretBytes& pin) {
  const CK_RV rv = module.call(&CK_FUNCTION_LIST::C_Login, session, user, p11_bytes(pin.reveal()),
                               CK_ULONG{pin.size()});
  return rv == CKR_USER_ALREADY_LOGGED_IN ? CK_RV{CKR_OK} : rv;
}

CK_RV set_user_pin(const Pkcs11Module& module, CK_SLOT_ID slot, const SecretBytes& officer_pin,
                   const SecretBytes& pin) {
  SessionPool sessions(module, slot, 1);
  if (const CK_RV rv = sessions.open(SessionPool::Access::kReadWrite); rv != CKR_OK) return rv;
  if (const CK_RV rv = log_in(module, sessions.owner(), CKU_SO, officer_pin); rv != CKR_OK)
    return rv;
  const CK_RV rv = module.call(&CK_FUNCTION_LIST::C_InitPIN, sessions.owner(),
                               p11_bytes(pin.reveal()), CK_ULONG{pin.size()});
  module.call(&CK_FUNCTION_LIST::C_Logout, sessions.owner());
  return rv;
}

Result<void> make_all(const ObjectAccess& access, const SecretBytes* seed) {
  for (const auto role : kRoles) {
    std::optional<SecretBytes> value;
    if (seed != nullptr) {
      auto derived = derive_token_key(*seed, role);
      if (!derived) return tl::unexpected(derived.error());
      value = std::move(*derived);
    }
    const auto made = make_token_key(access, role, value ? &*value : nullptr);
    if (!made) return tl::unexpected(made.error());
  }
  return {};
}

Result<std::map<TokenKeyRole, CK_OBJECT_HANDLE>> find_some(const ObjectAccess& access) {
  std::map<TokenKeyRole, CK_OBJECT_HANDLE> found;
  for (const auto role : kRoles) {
    const auto key = find_token_key(access, role);
    if (key)
      found.emplace(role, *key);
    else if (key.error().reason() != Reason::kNoSuchKey)
      return tl::unexpected(key.error());
  }
  return found;
}

}  // namespace

Result<TokenIdentity> make_token(Pkcs11Module& module, std::string_view label,
                                 const SecretBytes& pin) {
  if (label.empty() || label.size() > kLabelBytes)
    return fail(Reason::kInvalidArgs, "a token's label has 1 to 32 bytes");
  const auto slot = find_free_slot(module);
  if (!slot) return tl::unexpected(slot.error());
  const auto officer_pin = draw_officer_pin();
  if (!officer_pin) return tl::unexpected(officer_pin.error());

  std::array<std::byte, kLabelBytes> padded{};
  padded.fill(std::byte{' '});
  std::ranges::copy(as_bytes(label), padded.begin());
  const CK_RV made =
      module.call(&CK_FUNCTION_LIST::C_InitToken, *slot, p11_bytes(officer_pin->reveal()),
                  CK_ULONG{officer_pin->size()}, p11_bytes(padded));
  if (made != CKR_OK) return fail_return(made, "make the token");

  TokenSlot token;
  if (const CK_RV rv = module.read_token(*slot, token); rv != CKR_OK)
    return fail_return(rv, "read the token just made");
  if (const CK_RV rv = set_user_pin(module, *slot, *officer_pin, pin); rv != CKR_OK)
    return fail_return(rv, "set the PIN of the token");
  return token.identity;
}

namespace {

// Logs in to the token that `uri` names and hands its session to `work`.
Result<SetUp> with_session(Pkcs11Module& module, const Pkcs11Uri& uri, const SecretBytes& pin,
                           PinMark* mark,
                           const std::function<Result<SetUp>(const ObjectAccess&)>& work) {
  const auto token = module.find_token(uri);
  if (!token) return tl::unexpected(token.error());
  const auto tries = look_at_tries(module, token->slot);
  if (!tries) return tl::unexpected(tries.error());

  std::mutex objects;
  SessionPool sessions(module, token->slot, 1);
  if (const CK_RV rv = sessions.open(SessionPool::Access::kReadWrite); rv != CKR_OK)
    return fail_return(rv, "open a session that may write");
  if (mark == nullptr) {
    if (const CK_RV rv = log_in(module, sessions.owner(), CKU_USER, pin); rv != CKR_OK)
      return fail_return(rv, "log in");
  } else if (*tries != PinTries::kNotNeeded) {
    const auto in = log_in_once(module, sessions.owner(), *tries, pin, *mark);
    if (!in) return tl::unexpected(in.error());
  }
  return work({module, sessions.owner(), objects});
}

Result<SetUp> describe(const ObjectAccess& access, KeySet found) {
  const auto keys = find_safe_keys(access);
  if (!keys) return tl::unexpected(keys.error());
  auto root_id = read_root_id(access, *keys);
  if (!root_id) return tl::unexpected(root_id.error());
  const auto never_left = root_never_left(access, keys->root);
  if (!never_left) return tl::unexpected(never_left.error());
  return SetUp{found, std::move(*root_id), *never_left};
}

Result<KeySet> clear_part(const ObjectAccess& access) {
  const auto before = find_some(access);
  if (!before) return tl::unexpected(before.error());
  if (before->empty()) return KeySet::kNone;
  // A token set up before there were rooted or wrapped private keys is whole without theirs.
  const bool whole = before->contains(TokenKeyRole::kRoot) &&
                     before->contains(TokenKeyRole::kSeal) && before->contains(TokenKeyRole::kWrap);
  if (whole) return KeySet::kWhole;
  for (const auto& [role, key] : *before) {
    const CK_RV rv = access.module.call(&CK_FUNCTION_LIST::C_DestroyObject, access.owner, key);
    if (rv != CKR_OK) return fail_return(rv, "destroy a key that an interrupted run left");
  }
  return KeySet::kPart;
}

}  // namespace

Result<SetUp> make_token_keys(Pkcs11Module& module, const Pkcs11Uri& uri, const SecretBytes& pin,
                              const SecretBytes* seed, PinMark* mark) {
  if (seed != nullptr && seed->size() != kSeedBytes)
    return fail(Reason::kInvalidArgs, "a seed has 32 bytes");
  return with_session(module, uri, pin, mark, [&](const ObjectAccess& access) -> Result<SetUp> {
    const auto form = root_form(access);
    if (!form) return tl::unexpected(form.error());
    // Nothing of such a token's is made here, so nothing of it is destroyed either.
    if (*form == RootForm::kEncrypts) return describe(access, KeySet::kWhole);
    const auto found = clear_part(access);
    if (!found) return tl::unexpected(found.error());
    if (*found != KeySet::kWhole) {
      if (const auto made = make_all(access, seed); !made) return tl::unexpected(made.error());
    }
    return describe(access, *found);
  });
}

Result<SetUp> look_at_token_keys(Pkcs11Module& module, const Pkcs11Uri& uri, const SecretBytes& pin,
                                 PinMark* mark) {
  return with_session(module, uri, pin, mark,
                      [](const ObjectAccess& access) { return describe(access, KeySet::kWhole); });
}

}  // namespace coffer::hsm
