// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

#include "core/base/result.h"
#include "hsm/return_class.h"

namespace coffer::hsm {

// What the return values of an SDF library tell (GM/T 0018-2012 annex A, and what the edition of
// 2023 added). The standard has no code for a session or a handle that is gone: devices answer with
// the ones for a wrong argument, a missing key or a step out of order, so those are tried once more
// in a fresh session.

// No return value of a library, as those have 32 bits: it said that all went well and gave
// something that cannot be, as an output of another length than the function has.
inline constexpr unsigned long kSdfBadAnswer = 0x1'0000'0000;

// The row of `value`; for one that has none, that of kOther with the name "unknown".
ReturnInfo sdf_return_info(unsigned long value) noexcept;

std::span<const ReturnInfo> all_sdf_return_infos() noexcept;

// "step: SDR_… (0x…)" with the reason of the table.
tl::unexpected<Error> fail_sdf_return(unsigned long value, std::string_view step);

}  // namespace coffer::hsm
