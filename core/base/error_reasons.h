// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace coffer {

// What the caller can do about a failure.
enum class Errc : std::uint8_t {
  kNotFound,
  kPermissionDenied,
  kInternal,
  kInvalidArgument,     // The request can never work as given.
  kFailedPrecondition,  // A good request in the wrong state: key disabled, volume open.
  kUnavailable,         // The same request may work later: HSM away, server unreachable.
  kResourceExhausted,   // A stated limit was reached.
  kCorrupted,           // Authentication or format check failed. Never retry, never overwrite.
};

// Why it failed. Each reason belongs to one Errc and has one name; the name is the last part of the
// D-Bus error `org.coffer.Agent1.Error.<name>`, and stands in journal fields, audit records, job
// results and `coffer --json`. The table is error_reasons.cc.
enum class Reason : std::uint16_t {
  // Arguments, callers, limits.
  kInvalidArgs,
  kAccessDenied,
  kLimitsExceeded,
  kRateLimited,
  kUnsupported,
  kConfirmMismatch,
  kNameTaken,
  // Progress.
  kCancelled,
  kTimedOut,
  kInProgress,
  // Objects that are not there.
  kNoSuchVolume,
  kNoSuchJob,
  kNoSuchKey,
  kNoSuchBinding,
  kNoSuchFile,
  kAmbiguousVolume,
  // Volume state.
  kAlreadyUnlocked,
  kNotUnlocked,
  kBusy,
  kLockedByAdmin,
  kMappingForeign,
  // Devices and headers.
  kDeviceAbsent,
  kDeviceChanged,
  kDeviceTooSmall,
  kForeignData,
  kNotLuks2,
  kHeaderDamaged,
  kHeaderInvalid,
  kHeaderRolledBack,
  kHeaderUnusual,
  kProfileMismatch,
  kTokenMissing,
  kTokenInvalid,
  kTokenSpace,
  kKeyslotSpace,
  kLastKeyslot,
  kForeignKeyslot,
  kActivationFailed,
  // Wrapped keys and records.
  kWrongKey,
  kWrongVolume,
  kWrongHost,
  kWrongTenant,
  kWrongPurpose,
  kWrongGeneration,
  kBlobInvalid,
  kRecordInvalid,
  kRecordSuperseded,
  kThresholdNotMet,
  kTicketUnknown,
  // Keys.
  kKeyDisabled,
  kKeyArchived,
  kKeyPendingDeletion,
  kKeyPendingImport,
  kKeyRevoked,
  kKeyExhausted,
  kKeyNotDisabled,
  kKeyNotArchived,
  kKeyNotPendingDeletion,
  kKeyBound,
  kKeyUsage,
  kKeyImported,
  kKeyNotImported,
  kServiceKey,
  kImportTokenExpired,
  kImportRefused,
  kMaterialMismatch,
  // The HSM.
  kHsmAbsent,
  kHsmLoginNeeded,
  kHsmPinIncorrect,
  kHsmPinLocked,
  kHsmTimeout,
  kHsmBusy,
  kHsmFailed,
  kHsmKeyUnsafe,
  // The KMS and policy.
  kKmsUnreachable,
  kKmsRefused,
  kKmsTimeout,
  kLeaseExpired,
  kPolicyDenied,
  kPolicyExpired,
  kApprovalPending,
  kApprovalDenied,
  // Our own parts.
  kAuditUnavailable,
  kAuditBroken,
  kStoreUnavailable,
  kStoreDamaged,
  kWorkerLost,
  kReaderLost,
  kAgentUnreachable,
  kMessageInvalid,
  kConfigInvalid,
  kIoError,
  kNoMemory,
  kInternal,
};

// Whether the very same request may work later without anybody changing anything (kYes), only after
// an operator or another program changed something (kAfter), or never (kNo).
enum class Retryable : std::uint8_t { kNo, kYes, kAfter };

// One row of the table.
struct ReasonInfo {
  Reason reason;
  Errc code;
  std::string_view name;  // "KeyDisabled": D-Bus, journal, audit, JSON.
  Retryable retryable;
  int exit_status;           // Of the command line: 75 retryable, 77 not permitted, others final.
  std::string_view meaning;  // One sentence for the manual.
};

// The row of `reason`.
const ReasonInfo& reason_info(Reason reason) noexcept;

// All rows, in the order of the enumeration.
std::span<const ReasonInfo> all_reasons() noexcept;

// The reason with `name`, which may be its D-Bus error name. Empty when there is none.
std::optional<Reason> reason_by_name(std::string_view name) noexcept;

// The D-Bus error name of `reason`. InvalidArgs and AccessDenied are the bus's own, as every client
// knows them; all others carry our prefix.
std::string dbus_error_name(Reason reason);

std::string_view retryable_name(Retryable retryable) noexcept;  // "no", "yes", "after"

inline constexpr std::string_view kDbusErrorPrefix = "org.coffer.Agent1.Error.";
inline constexpr std::string_view kDbusStandardPrefix = "org.freedesktop.DBus.Error.";

}  // namespace coffer
