// SPDX-License-Identifier: Apache-2.0
#include "cli/agent/report.h"

#include <CLI/CLI.hpp>
#include <ostream>

namespace coffer::cli {

namespace json = boost::json;

void add_agent_options(CLI::App& command, AgentOptions& options) {
  command.add_option("--bus", options.bus, "D-Bus address of another bus than the system's");
  command.add_flag("--json", options.json, "One JSON document");
}

std::string_view what_to_do(Reason reason) {
  switch (reason) {
    case Reason::kAgentUnreachable:
      return "See whether it runs: systemctl status cofferd.service";
    case Reason::kAccessDenied:
      return "Run it as root, or have polkit allow it (org.coffer.Agent1.policy).";
    case Reason::kBusy:
      return "End what uses it, or give --deferred or --force to lock.";
    case Reason::kDeviceAbsent:
      return "Attach the device; it opens by itself then. `coffer scan` looks again.";
    case Reason::kForeignData:
      return "If what is there may be lost, do what the text says (give --confirm, or forget "
             "first).";
    case Reason::kNoSuchVolume:
    case Reason::kAmbiguousVolume:
      return "`coffer list` shows the volumes.";
    case Reason::kNoSuchKey:
      return "`coffer key list` shows the keys.";
    case Reason::kNoSuchJob:
      return "`coffer job list` shows the jobs; one is kept for a minute after its end.";
    case Reason::kKeyDisabled:
      return "`coffer key enable KEY` makes it usable again.";
    case Reason::kThresholdNotMet:
      return "`coffer key enable KEY` makes those usable again that the text calls disabled.";
    case Reason::kKeyBound:
    case Reason::kNoSuchBinding:
      return "`coffer key show KEY` tells what uses it.";
    case Reason::kKeyArchived:
      return "`coffer key unarchive KEY` lets it wrap again.";
    case Reason::kKeyPendingDeletion:
      return "`coffer key undelete KEY` brings it back.";
    case Reason::kKeyNotDisabled:
      return "`coffer key disable KEY` first.";
    case Reason::kKeyExhausted:
      return "`coffer key rotate KEY` makes a new version; of an imported key make another one.";
    case Reason::kHsmAbsent:
    case Reason::kHsmTimeout:
    case Reason::kHsmFailed:
    case Reason::kHsmBusy:
      return "`coffer provider list` tells what is wrong with the token.";
    case Reason::kHsmLoginNeeded:
    case Reason::kHsmPinIncorrect:
      return "Store the right PIN as the vault's credential, then restart coffer-vault@….service.";
    case Reason::kHsmPinLocked:
      return "Unlock the PIN with the token's own tool (security officer).";
    case Reason::kDeviceChanged:
      return "If the disk was moved on purpose: `coffer adopt DEVICE`, then unlock it.";
    case Reason::kLockedByAdmin:
      return "`coffer unlock VOLUME` ends that.";
    case Reason::kRecordInvalid:
    case Reason::kRecordSuperseded:
      return "The key store is not the one that this token last saw: see "
             "/usr/share/doc/coffer/operations.md.";
    case Reason::kStoreDamaged:
    case Reason::kStoreUnavailable:
      return "See the disk of /var/lib/coffer, and journalctl -u cofferd.service.";
    case Reason::kBlobInvalid:
      return "A volume's: do not reformat. A program's: the same --context must be given.";
    case Reason::kHeaderDamaged:
    case Reason::kHeaderInvalid:
    case Reason::kHeaderRolledBack:
    case Reason::kNotLuks2:
    case Reason::kProfileMismatch:
    case Reason::kTokenInvalid:
    case Reason::kTokenMissing:
    case Reason::kWrongGeneration:
    case Reason::kWrongKey:
    case Reason::kWrongVolume:
      return "Do not reformat: the data may be whole. Keep the device and restore its header.";
    case Reason::kAuditUnavailable:
      return "Free space for /var/lib/coffer/agent/audit; nothing happens unrecorded.";
    case Reason::kMappingForeign:
      return "Close the other mapping of that name first (dmsetup ls).";
    default:
      return "";
  }
}

std::string short_error_name(std::string_view name) {
  for (const auto prefix : {kDbusErrorPrefix, kDbusStandardPrefix}) {
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  }
  return std::string(name);
}

int report_error(const Error& error, const AgentOptions& options, Invocation& invocation) {
  const auto& row = reason_info(error.reason());
  if (options.json) {
    const json::object about{{"name", row.name},
                             {"text", error.message()},
                             {"retryable", retryable_name(row.retryable)}};
    invocation.out << json::serialize(json::object{{"error", about}}) << "\n";
    return row.exit_status;
  }
  invocation.err << "coffer: " << error.message() << "\n  " << row.name << ": " << row.meaning
                 << "\n";
  if (const auto advice = what_to_do(error.reason()); !advice.empty())
    invocation.err << "  " << advice << "\n";
  if (row.retryable == Retryable::kYes) invocation.err << "  The same command may work later.\n";
  return row.exit_status;
}

int print_json(const json::value& value, Invocation& invocation) {
  invocation.out << json::serialize(value) << "\n";
  return kExitOk;
}

std::string text_of(const json::object& object, std::string_view name) {
  const auto* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->as_string()) : "";
}

std::uint64_t number_of(const json::object& object, std::string_view name) {
  const auto* value = object.if_contains(name);
  if (value == nullptr) return 0;
  if (value->is_uint64()) return value->as_uint64();
  return value->is_int64() && value->as_int64() > 0 ? static_cast<std::uint64_t>(value->as_int64())
                                                    : 0;
}

bool flag_of(const json::object& object, std::string_view name) {
  const auto* value = object.if_contains(name);
  return value != nullptr && value->is_bool() && value->as_bool();
}

json::object with_path(json::object object, const std::string& path) {
  object["Path"] = path;
  return object;
}

}  // namespace coffer::cli
