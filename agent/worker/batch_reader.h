// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/result.h"

namespace coffer::agent {

// One read of a batch. With O_DIRECT, offset and length are multiples of the sector size.
struct BatchRead {
  int fd = -1;
  std::uint64_t offset_bytes = 0;
  std::size_t length_bytes = 0;  // At most BatchReader::kReadBytesMax.
  std::uint64_t device = 0;      // Reads of one device have one number. 0: never the same.
};

// BatchReader reads from many files at once: the time of a batch is that of its slowest disk, not
// the sum. Buffers come from a fixed, aligned pool, so memory does not grow with the batch; short
// reads are resumed. A read that has not ended by its deadline keeps its buffer until the kernel is
// done with it, and its device is not asked again so long: a dead disk costs one buffer, and no
// batch but its first waits for it. Two makers, and the same tests run on both.
//
// Each object belongs to one thread at a time.
class BatchReader {
 public:
  static constexpr std::size_t kReadBytesMax = std::size_t{128} << 10;
  static constexpr unsigned kInFlightDefault = 64;

  // Called once per read, on the caller's thread, in the order they end. The bytes are fewer than
  // asked for when the file ends before; the view ends with the call.
  //   kIoError         the device failed.
  //   kTimedOut        it had not answered by the deadline, or not yet to an earlier batch.
  //   kLimitsExceeded  so many devices do not answer that there is no buffer left.
  using Done = std::function<void(std::size_t index, Result<ByteView> bytes)>;

  virtual ~BatchReader() = default;
  virtual void read(std::span<const BatchRead> reads, const Done& done, Deadline deadline) = 0;
  virtual std::string_view name() const noexcept = 0;  // "io_uring", "pread"
};

// kUnsupported: the kernel refuses the ring, or lacks an operation that it needs.
Result<std::unique_ptr<BatchReader>> make_ring_reader(
    unsigned in_flight_max = BatchReader::kInFlightDefault);

// One read after the other. A disk that does not answer holds it up beyond the deadline.
std::unique_ptr<BatchReader> make_pread_reader();

// The ring where it works, pread elsewhere.
std::unique_ptr<BatchReader> make_batch_reader();

}  // namespace coffer::agent
