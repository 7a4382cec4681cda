// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

#include "core/base/result.h"
#include "hsm/return_class.h"

namespace coffer::hsm {

// The row of `value`; for one that has none, that of kOther with the name "unknown".
ReturnInfo return_info(unsigned long value) noexcept;

std::span<const ReturnInfo> all_return_infos() noexcept;

// "step: CKR_… (0x…)" with the reason of the table.
tl::unexpected<Error> fail_return(unsigned long value, std::string_view step);

}  // namespace coffer::hsm
