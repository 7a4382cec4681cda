// SPDX-License-Identifier: Apache-2.0
#include "hsm/pkcs11_errors.h"

#include <p11-kit/pkcs11.h>

#include <array>

namespace coffer::hsm {
namespace {

using rows::other;
using rows::pin;
using rows::resource;
using rows::session_lost;
using rows::token_lost;
using rows::unclear;

constexpr auto kTable = std::to_array<ReturnInfo>({
    {CKR_OK, "CKR_OK", ReturnClass::kOk, Reaction::kNone, Reason::kInternal},

    session_lost(CKR_SESSION_HANDLE_INVALID, "CKR_SESSION_HANDLE_INVALID"),
    session_lost(CKR_SESSION_CLOSED, "CKR_SESSION_CLOSED"),
    session_lost(CKR_USER_NOT_LOGGED_IN, "CKR_USER_NOT_LOGGED_IN"),
    session_lost(CKR_KEY_HANDLE_INVALID, "CKR_KEY_HANDLE_INVALID"),
    session_lost(CKR_OBJECT_HANDLE_INVALID, "CKR_OBJECT_HANDLE_INVALID"),
    session_lost(CKR_UNWRAPPING_KEY_HANDLE_INVALID, "CKR_UNWRAPPING_KEY_HANDLE_INVALID"),
    session_lost(CKR_WRAPPING_KEY_HANDLE_INVALID, "CKR_WRAPPING_KEY_HANDLE_INVALID"),

    token_lost(CKR_DEVICE_ERROR, "CKR_DEVICE_ERROR"),
    token_lost(CKR_DEVICE_REMOVED, "CKR_DEVICE_REMOVED"),
    token_lost(CKR_TOKEN_NOT_PRESENT, "CKR_TOKEN_NOT_PRESENT"),
    token_lost(CKR_TOKEN_NOT_RECOGNIZED, "CKR_TOKEN_NOT_RECOGNIZED"),
    token_lost(CKR_SLOT_ID_INVALID, "CKR_SLOT_ID_INVALID"),
    token_lost(CKR_CRYPTOKI_NOT_INITIALIZED, "CKR_CRYPTOKI_NOT_INITIALIZED"),

    pin(CKR_PIN_INCORRECT, "CKR_PIN_INCORRECT", Reason::kHsmPinIncorrect),
    pin(CKR_PIN_INVALID, "CKR_PIN_INVALID", Reason::kHsmPinIncorrect),
    pin(CKR_PIN_LEN_RANGE, "CKR_PIN_LEN_RANGE", Reason::kHsmPinIncorrect),
    pin(CKR_PIN_EXPIRED, "CKR_PIN_EXPIRED", Reason::kHsmPinLocked),
    pin(CKR_PIN_LOCKED, "CKR_PIN_LOCKED", Reason::kHsmPinLocked),

    unclear(CKR_GENERAL_ERROR, "CKR_GENERAL_ERROR"),
    unclear(CKR_FUNCTION_FAILED, "CKR_FUNCTION_FAILED"),
    unclear(CKR_ENCRYPTED_DATA_INVALID, "CKR_ENCRYPTED_DATA_INVALID"),
    unclear(CKR_ENCRYPTED_DATA_LEN_RANGE, "CKR_ENCRYPTED_DATA_LEN_RANGE"),

    resource(CKR_DEVICE_MEMORY, "CKR_DEVICE_MEMORY"),
    resource(CKR_HOST_MEMORY, "CKR_HOST_MEMORY"),
    resource(CKR_SESSION_COUNT, "CKR_SESSION_COUNT"),

    other(CKR_MECHANISM_INVALID, "CKR_MECHANISM_INVALID", Reason::kUnsupported),
    other(CKR_FUNCTION_NOT_SUPPORTED, "CKR_FUNCTION_NOT_SUPPORTED", Reason::kUnsupported),
    other(CKR_MECHANISM_PARAM_INVALID, "CKR_MECHANISM_PARAM_INVALID", Reason::kHsmFailed),
    other(CKR_ARGUMENTS_BAD, "CKR_ARGUMENTS_BAD", Reason::kHsmFailed),
    other(CKR_ATTRIBUTE_READ_ONLY, "CKR_ATTRIBUTE_READ_ONLY", Reason::kHsmFailed),
    other(CKR_ATTRIBUTE_SENSITIVE, "CKR_ATTRIBUTE_SENSITIVE", Reason::kHsmFailed),
    other(CKR_ATTRIBUTE_TYPE_INVALID, "CKR_ATTRIBUTE_TYPE_INVALID", Reason::kHsmFailed),
    other(CKR_ATTRIBUTE_VALUE_INVALID, "CKR_ATTRIBUTE_VALUE_INVALID", Reason::kHsmFailed),
    other(CKR_BUFFER_TOO_SMALL, "CKR_BUFFER_TOO_SMALL", Reason::kHsmFailed),
    other(CKR_DATA_INVALID, "CKR_DATA_INVALID", Reason::kHsmFailed),
    other(CKR_DATA_LEN_RANGE, "CKR_DATA_LEN_RANGE", Reason::kHsmFailed),
    other(CKR_KEY_FUNCTION_NOT_PERMITTED, "CKR_KEY_FUNCTION_NOT_PERMITTED", Reason::kHsmFailed),
    other(CKR_KEY_UNEXTRACTABLE, "CKR_KEY_UNEXTRACTABLE", Reason::kHsmFailed),
    other(CKR_OPERATION_ACTIVE, "CKR_OPERATION_ACTIVE", Reason::kHsmFailed),
    other(CKR_OPERATION_NOT_INITIALIZED, "CKR_OPERATION_NOT_INITIALIZED", Reason::kHsmFailed),
    other(CKR_SESSION_READ_ONLY, "CKR_SESSION_READ_ONLY", Reason::kHsmFailed),
    other(CKR_TEMPLATE_INCOMPLETE, "CKR_TEMPLATE_INCOMPLETE", Reason::kHsmFailed),
    other(CKR_TEMPLATE_INCONSISTENT, "CKR_TEMPLATE_INCONSISTENT", Reason::kHsmFailed),
    other(CKR_TOKEN_WRITE_PROTECTED, "CKR_TOKEN_WRITE_PROTECTED", Reason::kHsmFailed),
    other(CKR_USER_ANOTHER_ALREADY_LOGGED_IN, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN",
          Reason::kHsmFailed),
    other(CKR_USER_PIN_NOT_INITIALIZED, "CKR_USER_PIN_NOT_INITIALIZED", Reason::kHsmLoginNeeded),
    other(CKR_WRAPPED_KEY_INVALID, "CKR_WRAPPED_KEY_INVALID", Reason::kHsmFailed),
    other(CKR_WRAPPED_KEY_LEN_RANGE, "CKR_WRAPPED_KEY_LEN_RANGE", Reason::kHsmFailed),
});

}  // namespace

ReturnInfo return_info(unsigned long value) noexcept {
  return find_return(kTable, value);
}

std::span<const ReturnInfo> all_return_infos() noexcept {
  return kTable;
}

tl::unexpected<Error> fail_return(unsigned long value, std::string_view step) {
  return fail_with_return(return_info(value), step);
}

}  // namespace coffer::hsm
