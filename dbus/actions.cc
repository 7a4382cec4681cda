// SPDX-License-Identifier: Apache-2.0
#include "dbus/actions.h"

#include <array>

#include "dbus/names.h"

namespace coffer::dbus {
namespace {

constexpr auto kMethods = std::to_array<MethodAction>({
    {kManagerInterface, "ListVolumes", kActionRead, "volume.list"},
    {kManagerInterface, "GetVolume", kActionRead, "volume.list"},
    {kManagerInterface, "ListJobs", kActionRead, "job.list"},
    {kManagerInterface, "Provision", kActionProvision, "volume.provision"},
    {kManagerInterface, "Adopt", kActionAdopt, "volume.adopt"},
    {kManagerInterface, "UnlockMany", kActionUnlock, "volume.unlock"},
    {kManagerInterface, "UnlockAll", kActionUnlock, "volume.unlock"},
    {kManagerInterface, "LockMany", kActionLock, "volume.lock"},
    {kManagerInterface, "LockAll", kActionLockAll, "volume.lock"},
    {kManagerInterface, "VerifyMany", kActionVerify, "volume.verify"},
    {kManagerInterface, "Scan", kActionUnlock, "volume.scan"},

    {kVolumeInterface, "Unlock", kActionUnlock, "volume.unlock"},
    {kVolumeInterface, "Lock", kActionLock, "volume.lock"},
    {kVolumeInterface, "Verify", kActionVerify, "volume.verify"},
    {kVolumeInterface, "Forget", kActionForget, "volume.forget"},

    {kJobInterface, "Cancel", kActionOfTheJob, "job.cancel"},
    {kJobInterface, "GetResults", kActionRead, "job.read"},
    {kJobInterface, "GetDetails", kActionRead, "job.read"},

    {kKeyProviderInterface, "Test", kActionManageProvider, "provider.test"},

    {kAuditInterface, "Query", kActionReadAudit, "audit.query"},
    {kAuditInterface, "Verify", kActionReadAudit, "audit.verify"},

    {kKeyringInterface, "ListKeys", kActionRead, "key.list"},
    {kKeyringInterface, "GetKey", kActionRead, "key.list"},
    {kKeyringInterface, "CountKeys", kActionRead, "key.list"},
    {kKeyringInterface, "CreateKey", kActionManageKeys, "key.create"},
    {kKeyringInterface, "ChangeMany", kActionManageKeys, "key.change"},
    {kKeyringInterface, "GenerateRandom", kActionUseKeys, "key.random"},
    {kKeyringInterface, "Decrypt", kActionUseKeys, "key.unwrap"},
    {kKeyringInterface, "ReEncrypt", kActionUseKeys, "key.rewrap"},

    {kKeyInterface, "Enable", kActionManageKeys, "key.enable"},
    {kKeyInterface, "Disable", kActionManageKeys, "key.disable"},
    {kKeyInterface, "Archive", kActionManageKeys, "key.archive"},
    {kKeyInterface, "CancelArchive", kActionManageKeys, "key.cancel-archive"},
    {kKeyInterface, "ScheduleDeletion", kActionDeleteKeys, "key.schedule-deletion"},
    {kKeyInterface, "CancelDeletion", kActionManageKeys, "key.cancel-deletion"},
    {kKeyInterface, "Rotate", kActionManageKeys, "key.rotate"},
    {kKeyInterface, "SetRotation", kActionManageKeys, "key.set-rotation"},
    {kKeyInterface, "Describe", kActionManageKeys, "key.describe"},
    {kKeyInterface, "SetTags", kActionManageKeys, "key.tag"},
    {kKeyInterface, "RewrapAll", kActionManageKeys, "key.rewrap-all"},
    {kKeyInterface, "DestroyVersion", kActionDeleteKeys, "key.destroy-version"},
    {kKeyInterface, "PrepareImport", kActionManageKeys, "key.prepare-import"},
    {kKeyInterface, "ImportMaterial", kActionManageKeys, "key.import"},
    {kKeyInterface, "DeleteMaterial", kActionDeleteKeys, "key.delete-material"},
    {kKeyInterface, "ListVolumes", kActionRead, "key.list"},
    {kKeyInterface, "Bind", kActionManageKeys, "key.bind"},
    {kKeyInterface, "Unbind", kActionManageKeys, "key.unbind"},
    {kKeyInterface, "ListBindings", kActionRead, "key.list"},
    {kKeyInterface, "Encrypt", kActionUseKeys, "key.wrap"},
    {kKeyInterface, "GenerateDataKey", kActionUseKeys, "key.wrap"},
    {kKeyInterface, "Sign", kActionUseKeys, "key.sign"},
    {kKeyInterface, "DecryptAsymmetric", kActionUseKeys, "key.decrypt"},
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
