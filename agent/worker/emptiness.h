// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "agent/worker/device_table.h"
#include "agent/worker/worker.h"
#include "core/base/result.h"

namespace coffer::agent {

// Reads the first and the last MiB of the device, and of its header device. Every byte zero: empty.
// Else what a confirmation must repeat: 32 hex digits of SHA-256 over identity and content of both.
Result<Emptiness> look_for_data(const HeldDevice& device);

// The rule before any write: empty, or `confirmation` is that of `seen`.
//   kForeignData  no confirmation was given.    kConfirmMismatch  another one was.
Result<void> require_empty_or_confirmed(const Emptiness& seen, const std::string& confirmation);

// "ext4 file system", … by its magic bytes; "data" when none is known. `end` are the last bytes.
std::string name_content(ByteView start, ByteView end);

}  // namespace coffer::agent
