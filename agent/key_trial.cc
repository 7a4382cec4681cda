// SPDX-License-Identifier: Apache-2.0
#include "agent/key_trial.h"

namespace coffer::agent {

Result<CmkId> choose_trial_key(const std::map<CmkId, keyring::CmkRecord>& keys) {
  const keyring::CmkRecord* chosen = nullptr;
  for (const auto& [id, record] : keys) {
    if (record.state != keyring::KeyState::kEnabled) continue;
    if (chosen == nullptr || record.alias == "default") chosen = &record;
  }
  if (chosen != nullptr) return chosen->id;
  if (keys.empty()) return fail(Reason::kNoSuchKey, "there is no key to test the token with");
  return fail(Reason::kKeyDisabled, "no key is enabled to test the token with");
}

}  // namespace coffer::agent
