// SPDX-License-Identifier: Apache-2.0
#include "dbus/actions.h"

#include <array>

#include "dbus/names.h"

namespace coffer::dbus {
namespace {

constexpr auto kMethods = std::to_array<MethodAction>({
    {kManagerInterface, "ListVolumes", kActionRead},
    {kManagerInterface, "GetVolume", kActionRead},
    {kManagerInterface, "ListJobs", kActionRead},
    {kManagerInterface, "Provision", kActionProvision},
    {kManagerInterface, "Adopt", kActionAdopt},
    {kManagerInterface, "UnlockMany", kActionUnlock},
    {kManagerInterface, "UnlockAll", kActionUnlock},
    {kManagerInterface, "LockMany", kActionLock},
    {kManagerInterface, "LockAll", kActionLockAll},
    {kManagerInterface, "VerifyMany", kActionVerify},
    {kManagerInterface, "Scan", kActionUnlock},

    {kVolumeInterface, "Unlock", kActionUnlock},
    {kVolumeInterface, "Lock", kActionLock},
    {kVolumeInterface, "Verify", kActionVerify},
    {kVolumeInterface, "Forget", kActionForget},

    {kJobInterface, "Cancel", kActionOfTheJob},
    {kJobInterface, "GetResults", kActionRead},
    {kJobInterface, "GetDetails", kActionRead},

    {kKeyProviderInterface, "Test", kActionManageProvider},

    {kAuditInterface, "Query", kActionReadAudit},
    {kAuditInterface, "Verify", kActionReadAudit},

    {kKeyringInterface, "ListKeys", kActionRead},
    {kKeyringInterface, "GetKey", kActionRead},
    {kKeyringInterface, "CreateKey", kActionManageKeys},

    {kKeyInterface, "Enable", kActionManageKeys},
    {kKeyInterface, "Disable", kActionManageKeys},
    {kKeyInterface, "Rotate", kActionManageKeys},
});

}  // namespace

std::span<const MethodAction> method_actions() noexcept {
  return kMethods;
}

const MethodAction* find_method_action(std::string_view interface,
                                       std::string_view member) noexcept {
  for (const auto& row : kMethods) {
    if (row.interface == interface && row.member == member) return &row;
  }
  return nullptr;
}

const char* action_of_operation(std::string_view operation) noexcept {
  if (operation == "lock") return kActionLock;
  if (operation == "verify") return kActionVerify;
  if (operation == "provision") return kActionProvision;
  if (operation == "adopt") return kActionAdopt;
  if (operation == "test-provider") return kActionManageProvider;
  return kActionUnlock;
}

}  // namespace coffer::dbus
