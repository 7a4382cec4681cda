// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/key_vault.h"

#include <sys/random.h>

#include <cerrno>

namespace coffer::keyring {

Result<Ticket> draw_ticket() {
  Ticket ticket{};
  // Up to 256 bytes come whole or not at all (getrandom(2)).
  if (::getrandom(ticket.data(), ticket.size(), 0) != static_cast<ssize_t>(ticket.size())) {
    return fail_errno(errno, "draw a ticket", Reason::kInternal);
  }
  return ticket;
}

Result<void> require_names(const CmkChange& change) {
  if (change.alias) {
    if (auto alias = require_alias(*change.alias); !alias) return alias;
  }
  if (!change.description) return {};
  return require_description(*change.description);
}

std::string_view vault_state_name(VaultState state) noexcept {
  switch (state) {
    case VaultState::kUp:
      return "up";
    case VaultState::kAbsent:
      return "absent";
    case VaultState::kLoginNeeded:
      return "login-needed";
    case VaultState::kPinRefused:
      return "pin-refused";
    case VaultState::kPinLocked:
      return "pin-locked";
    case VaultState::kFailed:
      return "failed";
  }
  return "failed";
}

std::string_view vault_maker_name(VaultMaker maker) noexcept {
  switch (maker) {
    case VaultMaker::kPkcs11:
      return "pkcs11";
    case VaultMaker::kTpm2:
      return "tpm2";
    case VaultMaker::kSdf:
      return "sdf";
    case VaultMaker::kDevelopment:
      return "development";
  }
  return "pkcs11";
}

std::string_view sign_scheme_name(SignScheme scheme) noexcept {
  switch (scheme) {
    case SignScheme::kRsaPssSha256:
      return "rsa-pss-sha256";
    case SignScheme::kRsaPkcs1Sha256:
      return "rsa-pkcs1-sha256";
    case SignScheme::kEcdsa:
      return "ecdsa";
    case SignScheme::kSm2:
      return "sm2";
  }
  return "unknown";
}

std::string_view decrypt_scheme_name(DecryptScheme scheme) noexcept {
  switch (scheme) {
    case DecryptScheme::kRsaPkcs1:
      return "rsa-pkcs1";
    case DecryptScheme::kRsaOaepSha1:
      return "rsa-oaep-sha1";
    case DecryptScheme::kRsaOaepSha256:
      return "rsa-oaep-sha256";
    case DecryptScheme::kSm2:
      return "sm2";
  }
  return "unknown";
}

}  // namespace coffer::keyring
