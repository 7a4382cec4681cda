// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

#include "agent/worker/worker.h"
#include "core/base/bytes.h"
#include "core/base/result.h"

namespace coffer::agent {

// The only code that writes headers. `header` is both copies, one behind the other, as a device
// starts with them; what is in it was made by libcryptsetup, in memory.

// SHA-256 of each block of 4 KiB. kInvalidArgs: not a whole number of blocks, or too many.
Result<HeaderPrint> print_header(ByteView header);

// After each durable step, so that tests can stop there.
enum class WriteStep : std::uint8_t { kCleared, kSecondCopy, kFirstCopy };
using AfterStep = std::function<Result<void>(WriteStep)>;

struct NewHeader {
  ByteView header;               // Both copies.
  std::uint64_t area_bytes = 0;  // From the start of the device to the end of the keyslot area:
                                 // cleared first, for nothing of an older header must show through.
};

// Clears the area, then the second copy, then the first, each flushed to the disk: at any instant
// there is either no first copy or a whole pair. kIoError.
Result<void> write_new_header(int fd, const NewHeader& what, const AfterStep& after_step = {});

// Writes `header` over one that stands there, each copy flushed before the other is begun: a whole
// one stands there at any instant, the old or the new. `before` says which copies are good now: a
// bad one is written first. kIoError.
Result<void> rewrite_header(int fd, ByteView header, luks2::Copies before,
                            const AfterStep& after_step = {});

// Makes `length_bytes` read as zeros, flushed.
Result<void> clear_area(int fd, std::uint64_t offset_bytes, std::uint64_t length_bytes);

// How much of the header with that print stands at the start of `fd`.
//   kInvalidArgs  not a print.    kIoError
Result<HeaderPresence> find_printed(int fd, const HeaderPrint& print);

// Clears the blocks that are exactly those of the print, the first copy's first, and no other.
Result<void> wipe_printed(int fd, const HeaderPrint& print);

}  // namespace coffer::agent
