// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

namespace coffer::dbus {

// The polkit actions, as in org.coffer.Agent1.policy.
inline constexpr const char* kActionRead = "org.coffer.Agent1.read";
inline constexpr const char* kActionUnlock = "org.coffer.Agent1.unlock";
inline constexpr const char* kActionLock = "org.coffer.Agent1.lock";
inline constexpr const char* kActionLockAll = "org.coffer.Agent1.lock-all";
inline constexpr const char* kActionVerify = "org.coffer.Agent1.verify";
inline constexpr const char* kActionProvision = "org.coffer.Agent1.provision";
inline constexpr const char* kActionAdopt = "org.coffer.Agent1.adopt";
inline constexpr const char* kActionForget = "org.coffer.Agent1.forget";
inline constexpr const char* kActionManageKeys = "org.coffer.Agent1.manage-keys";
inline constexpr const char* kActionDeleteKeys = "org.coffer.Agent1.delete-keys";
inline constexpr const char* kActionUseKeys = "org.coffer.Agent1.use-keys";
inline constexpr const char* kActionManageProvider = "org.coffer.Agent1.manage-provider";
inline constexpr const char* kActionReadAudit = "org.coffer.Agent1.read-audit";

// Job.Cancel needs the action that starting the job needed, for each of its volumes.
inline constexpr const char* kActionOfTheJob = "(of the job)";

// What a caller other than root needs for one method, and what the audit trail calls it when it is
// refused (the vocabulary of docs/formats/audit.md).
struct MethodAction {
  std::string_view interface;
  std::string_view member;
  const char* action;
  const char* audited_as;
};

// One row per method of the API. A method without a row is refused to everybody: a test compares
// the table with the introspection data.
std::span<const MethodAction> method_actions() noexcept;

// Null when there is no row.
const MethodAction* find_method_action(std::string_view interface,
                                       std::string_view member) noexcept;

// The action that a job of `operation` needed; kActionRead never appears.
const char* action_of_operation(std::string_view operation) noexcept;

}  // namespace coffer::dbus
