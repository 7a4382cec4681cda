// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "core/base/bytes.h"
#include "core/luks2/header.h"

namespace coffer::luks2 {

// Reads the JSON area of one copy into `header`, whose metadata_bytes the caller has set: all
// lists, config and json_sha256. What it refuses leaves `header` half filled. Internal to
// core/luks2.
std::optional<Refusal> read_json_area(ByteView area, Header& header);

}  // namespace coffer::luks2
