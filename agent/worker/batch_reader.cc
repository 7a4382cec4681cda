// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/batch_reader.h"

#include <liburing.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <list>
#include <optional>
#include <string>
#include <vector>

namespace coffer::agent {
namespace {

constexpr std::size_t kSectorBytes = 512;

// Pages for `count` reads, aligned as O_DIRECT wants it.
class BufferPool {
 public:
  explicit BufferPool(std::size_t count) : bytes_(count * BatchReader::kReadBytesMax) {
    void* pages =
        ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages != MAP_FAILED) pages_ = static_cast<std::byte*>(pages);
  }
  ~BufferPool() {
    if (pages_ != nullptr) ::munmap(pages_, bytes_);
  }
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  bool valid() const noexcept { return pages_ != nullptr; }
  std::span<std::byte> slot(std::size_t index) const noexcept {
    return {pages_ + index * BatchReader::kReadBytesMax, BatchReader::kReadBytesMax};
  }

 private:
  std::size_t bytes_;
  std::byte* pages_ = nullptr;
};

// After `got` of `wanted` bytes: is there more to ask for? What does not end on a sector ended with
// the file, and O_DIRECT would refuse to go on from there.
bool ended(std::size_t got, std::size_t wanted) {
  return got >= wanted || got % kSectorBytes != 0;
}

tl::unexpected<Error> too_long() {
  return fail(Reason::kInvalidArgs, "a read of a batch is longer than its buffer");
}

class PreadReader final : public BatchReader {
 public:
  void read(std::span<const BatchRead> reads, const Done& done, Deadline deadline) override {
    for (std::size_t index = 0; index < reads.size(); ++index)
      done(index, deadline.passed() ? Result<ByteView>(fail(Reason::kTimedOut, "read headers"))
                                    : one(reads[index]));
  }
  std::string_view name() const noexcept override { return "pread"; }

 private:
  Result<ByteView> one(const BatchRead& read) {
    if (read.length_bytes > kReadBytesMax) return too_long();
    if (!pool_.valid()) return fail(Reason::kNoMemory, "no buffer to read into");
    const auto buffer = pool_.slot(0);
    std::size_t got = 0;
    while (!ended(got, read.length_bytes) || got == 0) {
      const auto n = ::pread(read.fd, buffer.data() + got, read.length_bytes - got,
                             static_cast<off_t>(read.offset_bytes + got));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail_errno(errno, "read");
      if (n == 0) break;
      got += static_cast<std::size_t>(n);
    }
    return ByteView(buffer.first(got));
  }

  BufferPool pool_{1};
};

// A ring with its buffers. Reads that a dead disk never answers keep theirs: the pair is then put
// aside as a whole until the kernel is done with it.
struct Ring {
  explicit Ring(unsigned in_flight_max) : pool(in_flight_max) {}
  ~Ring() {
    if (made) ::io_uring_queue_exit(&ring);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  io_uring ring{};
  bool made = false;
  BufferPool pool;
  std::size_t in_flight = 0;
};

Result<std::unique_ptr<Ring>> make_ring(unsigned in_flight_max) {
  auto made = std::make_unique<Ring>(in_flight_max);
  if (!made->pool.valid()) return fail(Reason::kNoMemory, "no buffers for the ring");
  if (const int r = ::io_uring_queue_init(in_flight_max, &made->ring, 0); r < 0)
    return fail_errno(-r, "make an io_uring", Reason::kUnsupported);
  made->made = true;
  const std::unique_ptr<io_uring_probe, void (*)(io_uring_probe*)> probe(
      ::io_uring_get_probe_ring(&made->ring), [](io_uring_probe* p) { ::io_uring_free_probe(p); });
  if (!probe || ::io_uring_opcode_supported(probe.get(), IORING_OP_READ) == 0)
    return fail(Reason::kUnsupported, "the kernel's io_uring cannot read");
  return made;
}

class RingReader final : public BatchReader {
 public:
  RingReader(std::unique_ptr<Ring> ring, unsigned in_flight_max)
      : in_flight_max_(in_flight_max), ring_(std::move(ring)) {}

  void read(std::span<const BatchRead> reads, const Done& done, Deadline deadline) override;
  std::string_view name() const noexcept override { return "io_uring"; }

 private:
  struct Slot {
    std::size_t index = 0;  // Of the read that uses it.
    std::size_t got = 0;
    bool used = false;
  };
  static constexpr std::size_t kAbandonedMax = 4;

  void submit(const BatchRead& read, std::size_t slot);
  // What one completion means: more to ask for, or the end of that read.
  std::optional<Result<ByteView>> completed(const BatchRead& read, std::size_t slot, int result);
  bool wait(Deadline deadline);
  void abandon(const Done& done, std::size_t next, std::size_t count);
  bool ready();

  const unsigned in_flight_max_;
  std::unique_ptr<Ring> ring_;
  std::vector<Slot> slots_;
  std::list<std::unique_ptr<Ring>> abandoned_;
};

void RingReader::submit(const BatchRead& read, std::size_t slot) {
  const auto got = slots_[slot].got;
  const auto buffer = ring_->pool.slot(slot);
  // There is one entry per slot and a slot is submitted once at a time, so there is always one
  // free.
  io_uring_sqe* entry = ::io_uring_get_sqe(&ring_->ring);
  ::io_uring_prep_read(entry, read.fd, buffer.data() + got,
                       static_cast<unsigned>(read.length_bytes - got), read.offset_bytes + got);
  ::io_uring_sqe_set_data64(entry, slot);
  ++ring_->in_flight;
}

std::optional<Result<ByteView>> RingReader::completed(const BatchRead& read, std::size_t slot,
                                                      int result) {
  auto& state = slots_[slot];
  if (result == -EINTR || result == -EAGAIN) return std::nullopt;
  if (result < 0) return Result<ByteView>(fail_errno(-result, "read"));
  state.got += static_cast<std::size_t>(result);
  if (result > 0 && !ended(state.got, read.length_bytes)) return std::nullopt;
  return Result<ByteView>(ByteView(ring_->pool.slot(slot).first(state.got)));
}

// False when nothing came by the deadline, or the ring failed.
bool RingReader::wait(Deadline deadline) {
  ::io_uring_submit(&ring_->ring);
  for (;;) {
    const auto left = deadline.left();
    __kernel_timespec timeout{left.count() / 1000, (left.count() % 1000) * 1'000'000};
    io_uring_cqe* cqe = nullptr;
    const int r = ::io_uring_wait_cqe_timeout(&ring_->ring, &cqe, &timeout);
    if (r == 0) return true;
    if (r != -EINTR && r != -EAGAIN) return false;
    if (deadline.passed()) return false;
  }
}

void RingReader::abandon(const Done& done, std::size_t next, std::size_t count) {
  abandoned_.push_back(std::move(ring_));
  for (const auto& slot : slots_)
    if (slot.used) done(slot.index, fail(Reason::kTimedOut, "the device did not answer in time"));
  for (; next < count; ++next)
    done(next, fail(Reason::kTimedOut, "no time was left to read from the device"));
}

// Frees what the kernel has finished since, and makes sure that there is a ring to use.
bool RingReader::ready() {
  for (auto& old : abandoned_) {
    io_uring_cqe* cqe = nullptr;
    while (old->in_flight > 0 && ::io_uring_peek_cqe(&old->ring, &cqe) == 0) {
      ::io_uring_cqe_seen(&old->ring, cqe);
      --old->in_flight;
    }
  }
  abandoned_.remove_if([](const auto& old) { return old->in_flight == 0; });
  if (ring_) return true;
  if (abandoned_.size() >= kAbandonedMax) return false;
  auto made = make_ring(in_flight_max_);
  if (made) ring_ = std::move(*made);
  return ring_ != nullptr;
}

void RingReader::read(std::span<const BatchRead> reads, const Done& done, Deadline deadline) {
  if (!ready()) {
    for (std::size_t index = 0; index < reads.size(); ++index)
      done(index, fail(Reason::kLimitsExceeded, "too many reads hang on disks that do not answer"));
    return;
  }
  slots_.assign(in_flight_max_, Slot{});
  std::size_t next = 0;
  const auto fill = [&](std::size_t slot) {
    slots_[slot] = {};
    while (next < reads.size() && reads[next].length_bytes > kReadBytesMax)
      done(next++, too_long());
    if (next == reads.size()) return;
    slots_[slot] = {next, 0, true};
    submit(reads[next++], slot);
  };
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) fill(slot);

  while (ring_->in_flight > 0) {
    if (!wait(deadline)) return abandon(done, next, reads.size());
    io_uring_cqe* cqe = nullptr;
    while (::io_uring_peek_cqe(&ring_->ring, &cqe) == 0) {
      const auto tag = ::io_uring_cqe_get_data64(cqe);
      const int result = cqe->res;
      ::io_uring_cqe_seen(&ring_->ring, cqe);
      if (tag >= slots_.size()) continue;  // A timeout's own completion.
      const auto slot = static_cast<std::size_t>(tag);
      --ring_->in_flight;
      const auto index = slots_[slot].index;
      if (auto end = completed(reads[index], slot, result)) {
        done(index, std::move(*end));
        fill(slot);
      } else {
        submit(reads[index], slot);
      }
    }
  }
}

}  // namespace

Result<std::unique_ptr<BatchReader>> make_ring_reader(unsigned in_flight_max) {
  auto ring = make_ring(in_flight_max);
  if (!ring) return tl::unexpected(ring.error());
  return std::unique_ptr<BatchReader>(
      std::make_unique<RingReader>(std::move(*ring), in_flight_max));
}

std::unique_ptr<BatchReader> make_pread_reader() {
  return std::make_unique<PreadReader>();
}

std::unique_ptr<BatchReader> make_batch_reader() {
  auto ring = make_ring_reader();
  return ring ? std::move(*ring) : make_pread_reader();
}

}  // namespace coffer::agent
