// SPDX-License-Identifier: Apache-2.0
#include "hsm/token_keys.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "core/crypto/digest.h"
#include "hsm/pkcs11_errors.h"
#include "hsm/pkcs11_template.h"

namespace coffer::hsm {
namespace {

constexpr CK_ULONG kKeyBytes = 32;
constexpr std::size_t kWrappedKeyBytes = 40;  // RFC 3394 over 32 bytes.
constexpr std::size_t kBlockBytes = 16;
constexpr std::size_t kNestedMax = 32;

struct Flag {
  CK_ATTRIBUTE_TYPE type;
  std::string_view name;
  bool value;
};

// What every key of the token must be.
constexpr auto kCommonFlags = std::to_array<Flag>({
    {CKA_TOKEN, "CKA_TOKEN", true},
    {CKA_PRIVATE, "CKA_PRIVATE", true},
    {CKA_SENSITIVE, "CKA_SENSITIVE", true},
    {CKA_EXTRACTABLE, "CKA_EXTRACTABLE", false},
    {CKA_MODIFIABLE, "CKA_MODIFIABLE", false},
    {CKA_DERIVE, "CKA_DERIVE", false},
});
// One key, one use: a key that both wraps and decrypts would hand out what it wrapped.
constexpr auto kWrappingFlags = std::to_array<Flag>({
    {CKA_ENCRYPT, "CKA_ENCRYPT", false},
    {CKA_DECRYPT, "CKA_DECRYPT", false},
    {CKA_WRAP, "CKA_WRAP", true},
    {CKA_UNWRAP, "CKA_UNWRAP", true},
    {CKA_SIGN, "CKA_SIGN", false},
    {CKA_VERIFY, "CKA_VERIFY", false},
});
constexpr auto kEncryptingFlags = std::to_array<Flag>({
    {CKA_ENCRYPT, "CKA_ENCRYPT", true},
    {CKA_DECRYPT, "CKA_DECRYPT", true},
    {CKA_WRAP, "CKA_WRAP", false},
    {CKA_UNWRAP, "CKA_UNWRAP", false},
    {CKA_SIGN, "CKA_SIGN", false},
    {CKA_VERIFY, "CKA_VERIFY", false},
});
constexpr auto kMacFlags = std::to_array<Flag>({
    {CKA_ENCRYPT, "CKA_ENCRYPT", false},
    {CKA_DECRYPT, "CKA_DECRYPT", false},
    {CKA_WRAP, "CKA_WRAP", false},
    {CKA_UNWRAP, "CKA_UNWRAP", false},
    {CKA_SIGN, "CKA_SIGN", true},
});
// What the root key forces on every key it unwraps. A private key has no CKA_WRAP, so a template
// that names it keeps private keys out (SoftHSM: CKR_ATTRIBUTE_TYPE_INVALID): it stands last, and
// theirs ends before it.
constexpr auto kUnwrapFlags = std::to_array<Flag>({
    {CKA_SENSITIVE, "CKA_SENSITIVE", true},
    {CKA_EXTRACTABLE, "CKA_EXTRACTABLE", false},
    {CKA_UNWRAP, "CKA_UNWRAP", false},
    {CKA_TOKEN, "CKA_TOKEN", false},
    {CKA_WRAP, "CKA_WRAP", false},
});

bool wraps(TokenKeyRole role, RootForm form) {
  return form == RootForm::kWraps &&
         (role == TokenKeyRole::kRoot || role == TokenKeyRole::kPrivate);
}

std::span<const Flag> unwrap_flags(TokenKeyRole role) {
  const std::span<const Flag> all(kUnwrapFlags);
  return role == TokenKeyRole::kPrivate ? all.first(all.size() - 1) : all;
}

std::span<const Flag> role_flags(TokenKeyRole role, RootForm form) {
  if (role == TokenKeyRole::kSeal || role == TokenKeyRole::kWrap) return kMacFlags;
  return wraps(role, form) ? std::span<const Flag>(kWrappingFlags)
                           : std::span<const Flag>(kEncryptingFlags);
}

bool is_cipher_key(TokenKeyRole role) {
  return role != TokenKeyRole::kSeal && role != TokenKeyRole::kWrap;
}

void add(Template& out, std::span<const Flag> flags) {
  for (const auto& flag : flags) out.flag(flag.type, flag.value);
}

tl::unexpected<Error> unsafe(TokenKeyRole role, std::string_view why) {
  return fail(Reason::kHsmKeyUnsafe,
              "key \"" + std::string(token_key_label(role)) + "\": " + std::string(why));
}

// The value of a flag; empty when the token does not say.
Result<std::optional<bool>> read_flag(const ObjectAccess& access, CK_OBJECT_HANDLE key,
                                      CK_ATTRIBUTE_TYPE type) {
  CK_BBOOL value = CK_FALSE;
  CK_ATTRIBUTE attribute{type, &value, sizeof value};
  const CK_RV rv = access.module.call(&CK_FUNCTION_LIST::C_GetAttributeValue, access.owner, key,
                                      &attribute, CK_ULONG{1});
  if (rv == CKR_ATTRIBUTE_TYPE_INVALID) return std::optional<bool>();
  if (rv != CKR_OK) return fail_return(rv, "read a key's attributes");
  if (attribute.ulValueLen != sizeof value) return std::optional<bool>();
  return std::optional<bool>(value != CK_FALSE);
}

Result<std::optional<CK_ULONG>> read_number(const ObjectAccess& access, CK_OBJECT_HANDLE key,
                                            CK_ATTRIBUTE_TYPE type) {
  CK_ULONG value = 0;
  CK_ATTRIBUTE attribute{type, &value, sizeof value};
  const CK_RV rv = access.module.call(&CK_FUNCTION_LIST::C_GetAttributeValue, access.owner, key,
                                      &attribute, CK_ULONG{1});
  if (rv == CKR_ATTRIBUTE_TYPE_INVALID) return std::optional<CK_ULONG>();
  if (rv != CKR_OK) return fail_return(rv, "read a key's attributes");
  if (attribute.ulValueLen != sizeof value) return std::optional<CK_ULONG>();
  return std::optional<CK_ULONG>(value);
}

Result<void> require_flags(const ObjectAccess& access, TokenKeyRole role, CK_OBJECT_HANDLE key,
                           std::span<const Flag> flags) {
  for (const auto& flag : flags) {
    const auto found = read_flag(access, key, flag.type);
    if (!found) return tl::unexpected(found.error());
    if (*found != flag.value)
      return unsafe(role, std::string(flag.name) + " is not " + (flag.value ? "1" : "0"));
  }
  return {};
}

// Reads CKA_UNWRAP_TEMPLATE, which takes three calls: how many, how long each, and the values.
Result<void> require_unwrap_template(const ObjectAccess& access, TokenKeyRole role,
                                     CK_OBJECT_HANDLE root) {
  const auto read = [&](CK_ATTRIBUTE& outer) {
    return access.module.call(&CK_FUNCTION_LIST::C_GetAttributeValue, access.owner, root, &outer,
                              CK_ULONG{1});
  };
  const auto no_template = [role] {
    return unsafe(role,
                  "CKA_UNWRAP_TEMPLATE is missing: an unwrapped key could be "
                  "taken out of the token");
  };
  CK_ATTRIBUTE outer{CKA_UNWRAP_TEMPLATE, nullptr, 0};
  CK_RV rv = read(outer);
  if (rv == CKR_ATTRIBUTE_TYPE_INVALID) return no_template();
  if (rv != CKR_OK) return fail_return(rv, "read a wrapping key's attributes");
  if (outer.ulValueLen == 0 || outer.ulValueLen == CK_UNAVAILABLE_INFORMATION) return no_template();

  std::vector<CK_ATTRIBUTE> nested(outer.ulValueLen / sizeof(CK_ATTRIBUTE));
  if (nested.size() > kNestedMax) return unsafe(role, "CKA_UNWRAP_TEMPLATE is huge");
  outer.pValue = nested.data();
  rv = read(outer);
  if (rv != CKR_OK) return fail_return(rv, "read a wrapping key's unwrap template");

  std::vector<CK_ULONG> values(nested.size(), 0);
  for (std::size_t i = 0; i < nested.size(); ++i) {
    // Longer values are none of the flags looked for; they are asked for with no room and left out.
    if (nested[i].ulValueLen > sizeof(CK_ULONG))
      return unsafe(role, "CKA_UNWRAP_TEMPLATE holds what Coffer does not know");
    nested[i].pValue = &values[i];
  }
  rv = read(outer);
  if (rv != CKR_OK) return fail_return(rv, "read a wrapping key's unwrap template");

  for (const auto& flag : unwrap_flags(role)) {
    const auto found = std::ranges::find(nested, flag.type, &CK_ATTRIBUTE::type);
    const bool holds = found != nested.end() && found->ulValueLen == sizeof(CK_BBOOL) &&
                       (*static_cast<const CK_BBOOL*>(found->pValue) != CK_FALSE) == flag.value;
    if (!holds)
      return unsafe(role, "CKA_UNWRAP_TEMPLATE does not force " + std::string(flag.name) + "=" +
                              (flag.value ? "1" : "0"));
  }
  return {};
}

Result<Bytes> sign_with(const ObjectAccess& access, CK_OBJECT_HANDLE key, ByteView message) {
  CK_MECHANISM mechanism{CKM_SHA256_HMAC, nullptr, 0};
  CK_RV rv = access.module.call(&CK_FUNCTION_LIST::C_SignInit, access.owner, &mechanism, key);
  if (rv != CKR_OK) return fail_return(rv, "start an HMAC in the token");
  Bytes mac(crypto::kSha256Bytes);
  CK_ULONG size = mac.size();
  rv = access.module.call(&CK_FUNCTION_LIST::C_Sign, access.owner, p11_bytes(message),
                          CK_ULONG{message.size()}, p11_bytes(mac), &size);
  if (rv != CKR_OK) return fail_return(rv, "compute an HMAC in the token");
  if (size != mac.size()) return fail(Reason::kHsmFailed, "the token's HMAC has a wrong length");
  return mac;
}

// What the root key makes of a key of zeros: tells roots apart and gives nothing away.
Result<Bytes> wrap_zeros(const ObjectAccess& access, CK_OBJECT_HANDLE root) {
  const std::array<std::byte, kKeyBytes> zeros{};
  Template known;
  known.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_AES);
  known.flag(CKA_TOKEN, false).flag(CKA_PRIVATE, true).flag(CKA_EXTRACTABLE, true);
  known.flag(CKA_SENSITIVE, false).flag(CKA_ENCRYPT, false).flag(CKA_DECRYPT, false);
  known.bytes(CKA_VALUE, zeros);
  CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
  CK_RV rv = access.module.call(&CK_FUNCTION_LIST::C_CreateObject, access.owner, known.data(),
                                known.size(), &key);
  if (rv != CKR_OK) return fail_return(rv, "make the key for a key check value");

  CK_MECHANISM mechanism{CKM_AES_KEY_WRAP, nullptr, 0};
  Bytes wrapped(kWrappedKeyBytes);
  CK_ULONG size = wrapped.size();
  rv = access.module.call(&CK_FUNCTION_LIST::C_WrapKey, access.owner, &mechanism, root, key,
                          p11_bytes(wrapped), &size);
  const CK_RV destroyed = access.module.call(&CK_FUNCTION_LIST::C_DestroyObject, access.owner, key);
  if (rv != CKR_OK) return fail_return(rv, "wrap with the root key");
  if (destroyed != CKR_OK) return fail_return(destroyed, "destroy a session key");
  if (size != wrapped.size()) return fail(Reason::kHsmFailed, "a wrapped key has a wrong length");
  return wrapped;
}

// The same of a root key that encrypts. What it encrypts otherwise has a random vector before it.
Result<Bytes> encrypt_zeros(const ObjectAccess& access, CK_OBJECT_HANDLE root) {
  std::array<std::byte, kBlockBytes> vector{};
  const std::array<std::byte, kKeyBytes> zeros{};
  CK_MECHANISM mechanism{CKM_AES_CBC, vector.data(), vector.size()};
  CK_RV rv = access.module.call(&CK_FUNCTION_LIST::C_EncryptInit, access.owner, &mechanism, root);
  if (rv != CKR_OK) return fail_return(rv, "encrypt with the root key");
  Bytes encrypted(zeros.size());
  CK_ULONG size = encrypted.size();
  rv = access.module.call(&CK_FUNCTION_LIST::C_Encrypt, access.owner, p11_bytes(zeros),
                          CK_ULONG{zeros.size()}, p11_bytes(encrypted), &size);
  if (rv != CKR_OK) return fail_return(rv, "encrypt with the root key");
  if (size != encrypted.size()) return fail(Reason::kHsmFailed, "a ciphertext has a wrong length");
  return encrypted;
}

}  // namespace

std::string_view token_key_label(TokenKeyRole role) noexcept {
  switch (role) {
    case TokenKeyRole::kRoot:
      return "coffer root";
    case TokenKeyRole::kSeal:
      return "coffer seal";
    case TokenKeyRole::kWrap:
      return "coffer wrap-hmac";
    case TokenKeyRole::kRooted:
      return "coffer rooted";
    case TokenKeyRole::kPrivate:
      return "coffer private-keys";
  }
  return "";
}

Result<RootForm> root_form(const ObjectAccess& access) {
  CK_SESSION_INFO session{};
  CK_RV rv = access.module.call(&CK_FUNCTION_LIST::C_GetSessionInfo, access.owner, &session);
  if (rv != CKR_OK) return fail_return(rv, "read the state of a session");
  std::set<CK_MECHANISM_TYPE> mechanisms;
  rv = access.module.list_mechanisms(session.slotID, mechanisms);
  if (rv != CKR_OK) return fail_return(rv, "list the token's mechanisms");
  if (mechanisms.contains(CKM_AES_KEY_WRAP)) return RootForm::kWraps;
  if (mechanisms.contains(CKM_AES_CBC)) return RootForm::kEncrypts;
  return fail(Reason::kUnsupported, "the token has neither AES key wrap nor AES-CBC");
}

Result<CK_OBJECT_HANDLE> find_token_key(const ObjectAccess& access, TokenKeyRole role) {
  Template wanted;
  wanted.number(CKA_CLASS, CKO_SECRET_KEY).flag(CKA_TOKEN, true);
  wanted.text(CKA_ID, token_key_id(role)).text(CKA_LABEL, token_key_label(role));

  const std::scoped_lock lock(access.objects);
  CK_RV rv = access.module.call(&CK_FUNCTION_LIST::C_FindObjectsInit, access.owner, wanted.data(),
                                wanted.size());
  if (rv != CKR_OK) return fail_return(rv, "search the token");
  std::array<CK_OBJECT_HANDLE, 2> found{};
  CK_ULONG count = 0;
  rv = access.module.call(&CK_FUNCTION_LIST::C_FindObjects, access.owner, found.data(),
                          CK_ULONG{found.size()}, &count);
  const CK_RV ended = access.module.call(&CK_FUNCTION_LIST::C_FindObjectsFinal, access.owner);
  if (rv != CKR_OK) return fail_return(rv, "search the token");
  if (ended != CKR_OK) return fail_return(ended, "end a search of the token");
  if (count == 0)
    return fail(Reason::kNoSuchKey, "the token has no key \"" + std::string(token_key_label(role)) +
                                        "\": run coffer init on it");
  if (count > 1) return unsafe(role, "stands in the token twice");
  return found[0];
}

Result<void> require_safe(const ObjectAccess& access, TokenKeyRole role, RootForm form,
                          CK_OBJECT_HANDLE key) {
  const std::scoped_lock lock(access.objects);
  const auto type = read_number(access, key, CKA_KEY_TYPE);
  if (!type) return tl::unexpected(type.error());
  const bool type_good = is_cipher_key(role)
                             ? *type == CKK_AES
                             : *type == CKK_GENERIC_SECRET || *type == CKK_SHA256_HMAC;
  if (!type_good) return unsafe(role, "is of another type");
  const auto size = read_number(access, key, CKA_VALUE_LEN);
  if (!size) return tl::unexpected(size.error());
  if (*size != kKeyBytes) return unsafe(role, "is not 256 bits long");

  if (const auto common = require_flags(access, role, key, kCommonFlags); !common) return common;
  if (const auto own = require_flags(access, role, key, role_flags(role, form)); !own) return own;
  return wraps(role, form) ? require_unwrap_template(access, role, key) : Result<void>();
}

Result<TokenKeys> find_safe_keys(const ObjectAccess& access) {
  const auto form = root_form(access);
  if (!form) return tl::unexpected(form.error());
  TokenKeys keys;
  keys.form = *form;
  const std::array<std::pair<TokenKeyRole, CK_OBJECT_HANDLE*>, 3> wanted{
      {{TokenKeyRole::kRoot, &keys.root},
       {TokenKeyRole::kSeal, &keys.seal},
       {TokenKeyRole::kWrap, &keys.wrap}}};
  for (const auto& [role, handle] : wanted) {
    const auto found = find_token_key(access, role);
    if (!found && found.error().reason() == Reason::kNoSuchKey && *form == RootForm::kEncrypts)
      return fail(Reason::kUnsupported,
                  "the token has no key \"" + std::string(token_key_label(role)) +
                      "\" and makes none through PKCS#11: make it with the token's own tool");
    if (!found) return tl::unexpected(found.error());
    if (const auto safe = require_safe(access, role, *form, *found); !safe)
      return tl::unexpected(safe.error());
    *handle = *found;
  }
  if (*form == RootForm::kEncrypts) {
    keys.rooted = keys.root;
    return keys;
  }
  const std::array<std::pair<TokenKeyRole, CK_OBJECT_HANDLE*>, 2> optional{
      {{TokenKeyRole::kRooted, &keys.rooted}, {TokenKeyRole::kPrivate, &keys.private_keys}}};
  for (const auto& [role, handle] : optional) {
    const auto found = find_token_key(access, role);
    if (!found && found.error().reason() == Reason::kNoSuchKey) continue;
    if (!found) return tl::unexpected(found.error());
    if (const auto safe = require_safe(access, role, *form, *found); !safe)
      return tl::unexpected(safe.error());
    *handle = *found;
  }
  return keys;
}

Result<bool> root_never_left(const ObjectAccess& access, CK_OBJECT_HANDLE root) {
  const std::scoped_lock lock(access.objects);
  const auto never = read_flag(access, root, CKA_NEVER_EXTRACTABLE);
  if (!never) return tl::unexpected(never.error());
  return never->value_or(false);
}

Result<std::string> read_root_id(const ObjectAccess& access, const TokenKeys& keys) {
  const std::scoped_lock lock(access.objects);
  const auto closed = keys.form == RootForm::kWraps ? wrap_zeros(access, keys.root)
                                                    : encrypt_zeros(access, keys.root);
  if (!closed) return tl::unexpected(closed.error());
  const auto seal = sign_with(access, keys.seal, as_bytes(kRootIdPurpose));
  if (!seal) return tl::unexpected(seal.error());
  const auto wrap = sign_with(access, keys.wrap, as_bytes(kRootIdPurpose));
  if (!wrap) return tl::unexpected(wrap.error());

  return root_id_of(*closed, *seal, *wrap);
}

Result<CK_OBJECT_HANDLE> make_token_key(const ObjectAccess& access, TokenKeyRole role,
                                        const SecretBytes* value) {
  const bool cipher = is_cipher_key(role);
  Template forced;
  add(forced, unwrap_flags(role));

  Template wanted;
  wanted.number(CKA_CLASS, CKO_SECRET_KEY);
  wanted.number(CKA_KEY_TYPE, cipher ? CKK_AES : CKK_GENERIC_SECRET);
  wanted.text(CKA_ID, token_key_id(role)).text(CKA_LABEL, token_key_label(role));
  add(wanted, kCommonFlags);
  add(wanted, role_flags(role, RootForm::kWraps));
  if (wraps(role, RootForm::kWraps)) wanted.nested(CKA_UNWRAP_TEMPLATE, forced);

  const std::scoped_lock lock(access.objects);
  CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
  if (value != nullptr) {
    wanted.bytes(CKA_VALUE, value->reveal());
    const CK_RV rv = access.module.call(&CK_FUNCTION_LIST::C_CreateObject, access.owner,
                                        wanted.data(), wanted.size(), &key);
    if (rv != CKR_OK) return fail_return(rv, "import " + std::string(token_key_label(role)));
    return key;
  }
  wanted.number(CKA_VALUE_LEN, kKeyBytes);
  CK_MECHANISM mechanism{cipher ? CKM_AES_KEY_GEN : CKM_GENERIC_SECRET_KEY_GEN, nullptr, 0};
  const CK_RV rv = access.module.call(&CK_FUNCTION_LIST::C_GenerateKey, access.owner, &mechanism,
                                      wanted.data(), wanted.size(), &key);
  if (rv != CKR_OK) return fail_return(rv, "generate " + std::string(token_key_label(role)));
  return key;
}

}  // namespace coffer::hsm
