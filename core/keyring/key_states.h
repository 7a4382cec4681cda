// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "core/base/result.h"
#include "core/keyring/cmk_record.h"

namespace coffer::keyring {

// What a key's state forbids, in one voice: kKeyDisabled, kKeyArchived, kKeyPendingImport,
// kKeyPendingDeletion, kNoSuchKey of a destroyed one; kInvalidArgs when it is enabled. `doing` is
// what was asked for: "rotate".
tl::unexpected<Error> refused_by_state(const CmkRecord& record, std::string_view doing);

// Nothing when the key is in that state, else the same.
Result<void> require_state(const CmkRecord& record, KeyState wanted, std::string_view doing);

// When something is to be done about the key next: its deletion, the end of its material or of an
// offer, its rotation while it is enabled. Once it is enabled, what it missed is due.
std::optional<WallTime> due_of(const CmkRecord& record);

// When the rotation that is next was planned, of an enabled key. In the future: by a clock that was
// wrong.
std::optional<WallTime> rotation_planned_at(const CmkRecord& record);

}  // namespace coffer::keyring
