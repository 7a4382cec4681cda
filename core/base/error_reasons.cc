// SPDX-License-Identifier: Apache-2.0
#include "core/base/error_reasons.h"

#include <array>
#include <cstddef>

namespace coffer {
namespace {

// Exit statuses follow sysexits.h where one fits: 64 usage, 65 bad data, 69 wrong state, 70
// internal, 73 limit, 75 try again, 77 not permitted; 66 is "not found".
constexpr int exit_status_of(Errc code, Retryable retryable) {
  if (retryable == Retryable::kYes) return 75;
  switch (code) {
    case Errc::kNotFound:
      return 66;
    case Errc::kPermissionDenied:
      return 77;
    case Errc::kInternal:
      return 70;
    case Errc::kInvalidArgument:
      return 64;
    case Errc::kFailedPrecondition:
    case Errc::kUnavailable:
      return 69;
    case Errc::kResourceExhausted:
      return 73;
    case Errc::kCorrupted:
      return 65;
  }
  return 70;
}

constexpr ReasonInfo row(Reason reason, Errc code, std::string_view name, Retryable retryable,
                         std::string_view meaning) {
  return {reason, code, name, retryable, exit_status_of(code, retryable), meaning};
}

constexpr auto kReasons = std::to_array<ReasonInfo>({
    row(Reason::kInvalidArgs, Errc::kInvalidArgument, "InvalidArgs", Retryable::kNo,
        "An argument is missing, malformed, unknown or out of range."),
    row(Reason::kAccessDenied, Errc::kPermissionDenied, "AccessDenied", Retryable::kNo,
        "The caller may not do this."),
    row(Reason::kLimitsExceeded, Errc::kResourceExhausted, "LimitsExceeded", Retryable::kYes,
        "A stated limit on size, number or queue length was reached."),
    row(Reason::kRateLimited, Errc::kResourceExhausted, "RateLimited", Retryable::kYes,
        "The caller asks too often."),
    row(Reason::kUnsupported, Errc::kInvalidArgument, "Unsupported", Retryable::kNo,
        "This build, kernel or token cannot do it."),
    row(Reason::kConfirmMismatch, Errc::kInvalidArgument, "ConfirmMismatch", Retryable::kNo,
        "The confirmation given is not the one that was asked for."),
    row(Reason::kNameTaken, Errc::kFailedPrecondition, "NameTaken", Retryable::kNo,
        "Another object already has this name."),
    row(Reason::kCancelled, Errc::kUnavailable, "Cancelled", Retryable::kYes,
        "The job was cancelled."),
    row(Reason::kTimedOut, Errc::kUnavailable, "TimedOut", Retryable::kYes,
        "A deadline passed before the work was done."),
    row(Reason::kInProgress, Errc::kUnavailable, "InProgress", Retryable::kYes,
        "Another operation on the same object has not finished."),
    row(Reason::kNoSuchVolume, Errc::kNotFound, "NoSuchVolume", Retryable::kNo,
        "No volume has this UUID, name or device."),
    row(Reason::kNoSuchJob, Errc::kNotFound, "NoSuchJob", Retryable::kNo,
        "No job has this number, or it ended more than a minute ago."),
    row(Reason::kNoSuchKey, Errc::kNotFound, "NoSuchKey", Retryable::kNo,
        "No key has this id or alias."),
    row(Reason::kNoSuchBinding, Errc::kNotFound, "NoSuchBinding", Retryable::kNo,
        "The resource is not bound to the key."),
    row(Reason::kNoSuchFile, Errc::kNotFound, "NoSuchFile", Retryable::kNo,
        "A file or folder that is needed does not exist."),
    row(Reason::kAmbiguousVolume, Errc::kInvalidArgument, "AmbiguousVolume", Retryable::kNo,
        "More than one volume, or copy of one, answers to this; the text names them."),
    row(Reason::kAlreadyUnlocked, Errc::kFailedPrecondition, "AlreadyUnlocked", Retryable::kNo,
        "The volume is open (said only with the option strict)."),
    row(Reason::kNotUnlocked, Errc::kFailedPrecondition, "NotUnlocked", Retryable::kNo,
        "The volume is not open."),
    row(Reason::kBusy, Errc::kFailedPrecondition, "Busy", Retryable::kAfter,
        "The mapping is in use; the text names what holds it."),
    row(Reason::kLockedByAdmin, Errc::kFailedPrecondition, "LockedByAdmin", Retryable::kAfter,
        "An admin locked the volume; only an unlock or a reboot ends that."),
    row(Reason::kMappingForeign, Errc::kFailedPrecondition, "MappingForeign", Retryable::kAfter,
        "A mapping with this name exists that Coffer did not make."),
    row(Reason::kDeviceAbsent, Errc::kUnavailable, "DeviceAbsent", Retryable::kAfter,
        "The volume's device is not attached."),
    row(Reason::kDeviceChanged, Errc::kFailedPrecondition, "DeviceChanged", Retryable::kAfter,
        "The device is not the one that was checked."),
    row(Reason::kDeviceTooSmall, Errc::kCorrupted, "DeviceTooSmall", Retryable::kNo,
        "The device is shorter than its header or the registry says."),
    row(Reason::kForeignData, Errc::kFailedPrecondition, "ForeignData", Retryable::kNo,
        "The device is not empty, is another volume's, or nothing tells it from other devices; the "
        "text says what would have to be confirmed."),
    row(Reason::kNotLuks2, Errc::kCorrupted, "NotLuks2", Retryable::kNo,
        "The device carries no LUKS2 header."),
    row(Reason::kHeaderDamaged, Errc::kCorrupted, "HeaderDamaged", Retryable::kNo,
        "Both copies of the header are damaged."),
    row(Reason::kHeaderInvalid, Errc::kCorrupted, "HeaderInvalid", Retryable::kNo,
        "The header breaks the LUKS2 format."),
    row(Reason::kHeaderRolledBack, Errc::kCorrupted, "HeaderRolledBack", Retryable::kNo,
        "The header is older than the host's state says."),
    row(Reason::kHeaderUnusual, Errc::kFailedPrecondition, "HeaderUnusual", Retryable::kAfter,
        "The header shows work in progress, such as a reencryption, and is left alone."),
    row(Reason::kProfileMismatch, Errc::kCorrupted, "ProfileMismatch", Retryable::kNo,
        "The header differs from the pinned profile; the text names the field."),
    row(Reason::kTokenMissing, Errc::kCorrupted, "TokenMissing", Retryable::kNo,
        "The header carries no coffer token."),
    row(Reason::kTokenInvalid, Errc::kCorrupted, "TokenInvalid", Retryable::kNo,
        "The coffer token is malformed."),
    row(Reason::kTokenSpace, Errc::kResourceExhausted, "TokenSpace", Retryable::kNo,
        "The header has no room for another token."),
    row(Reason::kKeyslotSpace, Errc::kResourceExhausted, "KeyslotSpace", Retryable::kNo,
        "The header has no room for another keyslot."),
    row(Reason::kLastKeyslot, Errc::kFailedPrecondition, "LastKeyslot", Retryable::kNo,
        "This is the last way to the volume's key."),
    row(Reason::kForeignKeyslot, Errc::kFailedPrecondition, "ForeignKeyslot", Retryable::kNo,
        "The keyslot or token is not Coffer's."),
    row(Reason::kActivationFailed, Errc::kUnavailable, "ActivationFailed", Retryable::kYes,
        "The kernel refused the mapping; the text says why."),
    row(Reason::kWrongKey, Errc::kCorrupted, "WrongKey", Retryable::kNo,
        "The key is not the one that the header's digest proves."),
    row(Reason::kWrongVolume, Errc::kCorrupted, "WrongVolume", Retryable::kNo,
        "The wrapped key is bound to another volume."),
    row(Reason::kWrongHost, Errc::kCorrupted, "WrongHost", Retryable::kNo,
        "The wrapped key is bound to another host."),
    row(Reason::kWrongTenant, Errc::kCorrupted, "WrongTenant", Retryable::kNo,
        "The wrapped key is bound to another tenant."),
    row(Reason::kWrongPurpose, Errc::kPermissionDenied, "WrongPurpose", Retryable::kNo,
        "The wrapped key is bound to another purpose."),
    row(Reason::kWrongGeneration, Errc::kCorrupted, "WrongGeneration", Retryable::kNo,
        "The wrapped key is of another generation than the host's state says."),
    row(Reason::kBlobInvalid, Errc::kCorrupted, "BlobInvalid", Retryable::kNo,
        "The wrapped key fails its format or authentication check."),
    row(Reason::kRecordInvalid, Errc::kCorrupted, "RecordInvalid", Retryable::kNo,
        "The key's record fails its seal or format check."),
    row(Reason::kRecordSuperseded, Errc::kCorrupted, "RecordSuperseded", Retryable::kNo,
        "The key's record is older than one that was already used."),
    row(Reason::kThresholdNotMet, Errc::kFailedPrecondition, "ThresholdNotMet", Retryable::kAfter,
        "Fewer shares are available than the threshold needs."),
    row(Reason::kTicketUnknown, Errc::kUnavailable, "TicketUnknown", Retryable::kYes,
        "The worker does not expect this key any more."),
    row(Reason::kKeyDisabled, Errc::kFailedPrecondition, "KeyDisabled", Retryable::kAfter,
        "The key is disabled."),
    row(Reason::kKeyArchived, Errc::kFailedPrecondition, "KeyArchived", Retryable::kAfter,
        "The key is archived: it unwraps but does not wrap."),
    row(Reason::kKeyPendingDeletion, Errc::kFailedPrecondition, "KeyPendingDeletion",
        Retryable::kAfter, "The key is scheduled for deletion."),
    row(Reason::kKeyPendingImport, Errc::kFailedPrecondition, "KeyPendingImport", Retryable::kAfter,
        "The key waits for its material."),
    row(Reason::kKeyRevoked, Errc::kPermissionDenied, "KeyRevoked", Retryable::kNo,
        "The key was revoked."),
    row(Reason::kKeyExhausted, Errc::kResourceExhausted, "KeyExhausted", Retryable::kAfter,
        "The key version reached its limit of uses: rotate it, or replace an imported key."),
    row(Reason::kKeyNotDisabled, Errc::kFailedPrecondition, "KeyNotDisabled", Retryable::kAfter,
        "The key must be disabled first."),
    row(Reason::kKeyNotArchived, Errc::kFailedPrecondition, "KeyNotArchived", Retryable::kNo,
        "The key is not archived."),
    row(Reason::kKeyNotPendingDeletion, Errc::kFailedPrecondition, "KeyNotPendingDeletion",
        Retryable::kNo, "No deletion of the key is scheduled."),
    row(Reason::kKeyBound, Errc::kFailedPrecondition, "KeyBound", Retryable::kAfter,
        "Volumes or other resources use the key; it must be said that they are to lose it."),
    row(Reason::kKeyUsage, Errc::kInvalidArgument, "KeyUsage", Retryable::kNo,
        "The key was made for something else."),
    row(Reason::kKeyImported, Errc::kFailedPrecondition, "KeyImported", Retryable::kNo,
        "The key's material was imported: new material is its owner's to bring."),
    row(Reason::kKeyNotImported, Errc::kFailedPrecondition, "KeyNotImported", Retryable::kNo,
        "The key's material was generated here, not imported."),
    row(Reason::kServiceKey, Errc::kPermissionDenied, "ServiceKey", Retryable::kNo,
        "The key belongs to a service; callers may look at it, use it and rotate it."),
    row(Reason::kImportTokenExpired, Errc::kFailedPrecondition, "ImportTokenExpired",
        Retryable::kAfter,
        "The import token is older than 24 hours, not the newest, or another key's."),
    row(Reason::kImportRefused, Errc::kInvalidArgument, "ImportRefused", Retryable::kNo,
        "What was to be imported does not unwrap to a sound key of the right kind and length."),
    row(Reason::kMaterialMismatch, Errc::kInvalidArgument, "MaterialMismatch", Retryable::kNo,
        "The material is not what was first imported into this key."),
    row(Reason::kHsmAbsent, Errc::kUnavailable, "HsmAbsent", Retryable::kYes,
        "The token cannot be reached."),
    row(Reason::kHsmLoginNeeded, Errc::kUnavailable, "HsmLoginNeeded", Retryable::kAfter,
        "The vault has no PIN for the token."),
    row(Reason::kHsmPinIncorrect, Errc::kUnavailable, "HsmPinIncorrect", Retryable::kAfter,
        "The token refused the PIN; it is not tried again until the credential changes."),
    row(Reason::kHsmPinLocked, Errc::kUnavailable, "HsmPinLocked", Retryable::kAfter,
        "The token's PIN is locked or expired."),
    row(Reason::kHsmTimeout, Errc::kUnavailable, "HsmTimeout", Retryable::kYes,
        "The token did not answer within the deadline."),
    row(Reason::kHsmBusy, Errc::kUnavailable, "HsmBusy", Retryable::kYes,
        "The token is out of sessions or memory."),
    row(Reason::kHsmFailed, Errc::kUnavailable, "HsmFailed", Retryable::kYes,
        "The token answered with an error."),
    row(Reason::kHsmKeyUnsafe, Errc::kFailedPrecondition, "HsmKeyUnsafe", Retryable::kNo,
        "A key in the token has attributes that would let it leak."),
    row(Reason::kKmsUnreachable, Errc::kUnavailable, "KmsUnreachable", Retryable::kYes,
        "The KMS cannot be reached."),
    row(Reason::kKmsRefused, Errc::kPermissionDenied, "KmsRefused", Retryable::kNo,
        "The KMS refused."),
    row(Reason::kKmsTimeout, Errc::kUnavailable, "KmsTimeout", Retryable::kYes,
        "The KMS did not answer within the deadline."),
    row(Reason::kLeaseExpired, Errc::kPermissionDenied, "LeaseExpired", Retryable::kAfter,
        "The host's lease on the key ended."),
    row(Reason::kPolicyDenied, Errc::kPermissionDenied, "PolicyDenied", Retryable::kAfter,
        "Policy does not allow it."),
    row(Reason::kPolicyExpired, Errc::kPermissionDenied, "PolicyExpired", Retryable::kAfter,
        "The host's policy is too old to be used."),
    row(Reason::kApprovalPending, Errc::kUnavailable, "ApprovalPending", Retryable::kYes,
        "Somebody has to approve first."),
    row(Reason::kApprovalDenied, Errc::kPermissionDenied, "ApprovalDenied", Retryable::kNo,
        "Approval was denied."),
    row(Reason::kAuditUnavailable, Errc::kUnavailable, "AuditUnavailable", Retryable::kYes,
        "The audit record could not be made durable, so nothing was done."),
    row(Reason::kAuditBroken, Errc::kCorrupted, "AuditBroken", Retryable::kNo,
        "The audit journal fails its verification."),
    row(Reason::kStoreUnavailable, Errc::kUnavailable, "StoreUnavailable", Retryable::kYes,
        "The state store cannot be read or written now."),
    row(Reason::kStoreDamaged, Errc::kCorrupted, "StoreDamaged", Retryable::kNo,
        "The state store fails its format check."),
    row(Reason::kWorkerLost, Errc::kUnavailable, "WorkerLost", Retryable::kYes,
        "The worker process went away in the middle."),
    row(Reason::kReaderLost, Errc::kUnavailable, "ReaderLost", Retryable::kYes,
        "The reader process went away on this header."),
    row(Reason::kAgentUnreachable, Errc::kUnavailable, "AgentUnreachable", Retryable::kYes,
        "cofferd does not answer."),
    row(Reason::kMessageInvalid, Errc::kCorrupted, "MessageInvalid", Retryable::kNo,
        "A message between processes is malformed."),
    row(Reason::kConfigInvalid, Errc::kInvalidArgument, "ConfigInvalid", Retryable::kNo,
        "The configuration is malformed; the text names file and key."),
    row(Reason::kIoError, Errc::kUnavailable, "IoError", Retryable::kYes,
        "Reading or writing failed; the text has the system's words."),
    row(Reason::kNoMemory, Errc::kResourceExhausted, "NoMemory", Retryable::kYes,
        "Memory could not be had or locked."),
    row(Reason::kInternal, Errc::kInternal, "Internal", Retryable::kNo,
        "A mistake in Coffer itself; please report it."),
});

constexpr bool table_is_in_order() {
  for (std::size_t i = 0; i < kReasons.size(); ++i) {
    if (static_cast<std::size_t>(kReasons[i].reason) != i) return false;
  }
  return kReasons.size() == static_cast<std::size_t>(Reason::kInternal) + 1;
}
static_assert(table_is_in_order(),
              "kReasons has one row per Reason, in the order of the enumeration");

}  // namespace

const ReasonInfo& reason_info(Reason reason) noexcept {
  return kReasons[static_cast<std::size_t>(reason)];
}

std::span<const ReasonInfo> all_reasons() noexcept {
  return kReasons;
}

std::optional<Reason> reason_by_name(std::string_view name) noexcept {
  for (const auto prefix : {kDbusErrorPrefix, kDbusStandardPrefix}) {
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  }
  for (const auto& info : kReasons) {
    if (info.name == name) return info.reason;
  }
  return std::nullopt;
}

std::string dbus_error_name(Reason reason) {
  const bool standard = reason == Reason::kInvalidArgs || reason == Reason::kAccessDenied;
  return std::string(standard ? kDbusStandardPrefix : kDbusErrorPrefix)
      .append(reason_info(reason).name);
}

std::string_view retryable_name(Retryable retryable) noexcept {
  switch (retryable) {
    case Retryable::kNo:
      return "no";
    case Retryable::kYes:
      return "yes";
    case Retryable::kAfter:
      return "after";
  }
  return "no";
}

}  // namespace coffer
