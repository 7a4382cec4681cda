// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>

#include "core/base/id.h"
#include "core/base/result.h"
#include "core/keyring/cmk_record.h"

namespace coffer::agent {

// The key to try a provider with: the one called "default", else any that is enabled.
//   kNoSuchKey    there is no key at all.
//   kKeyDisabled  none is enabled.
Result<CmkId> choose_trial_key(const std::map<CmkId, keyring::CmkRecord>& keys);

}  // namespace coffer::agent
