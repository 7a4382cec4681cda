// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/batch_reader.h"

#include <liburing.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
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
  void leave() noexcept { pages_ = nullptr; }  // For good, still mapped.
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

// An io_uring that is taken down with its owner.
class Ring {
 public:
  Ring() = default;
  ~Ring() {
    if (made_) ::io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  Result<void> make(unsigned entries) {
    if (const int r = ::io_uring_queue_init(entries, &ring_, 0); r < 0)
      return fail_errno(-r, "make an io_uring", Reason::kUnsupported);
    made_ = true;
    const std::unique_ptr<io_uring_probe, void (*)(io_uring_probe*)> probe(
        ::io_uring_get_probe_ring(&ring_), [](io_uring_probe* p) { ::io_uring_free_probe(p); });
    if (!probe || ::io_uring_opcode_supported(probe.get(), IORING_OP_READ) == 0)
      return fail(Reason::kUnsupported, "the kernel's io_uring cannot read");
    return {};
  }
  io_uring* get() noexcept { return &ring_; }

 private:
  io_uring ring_{};
  bool made_ = false;
};

class RingReader final : public BatchReader {
 public:
  explicit RingReader(unsigned in_flight_max) : pool_(in_flight_max), slots_(in_flight_max) {}
  ~RingReader() override {
    // The kernel may still write into the buffers of reads that hang: those pages are left to it.
    if (std::ranges::any_of(slots_, [](const Slot& s) { return s.use != Use::kFree; }))
      pool_.leave();
  }
  RingReader(const RingReader&) = delete;
  RingReader& operator=(const RingReader&) = delete;

  Result<void> make() {
    if (!pool_.valid()) return fail(Reason::kNoMemory, "no buffers for the ring");
    return ring_.make(static_cast<unsigned>(slots_.size()));
  }
  void read(std::span<const BatchRead> reads, const Done& done, Deadline deadline) override;
  std::string_view name() const noexcept override { return "io_uring"; }

 private:
  enum class Use : std::uint8_t { kFree, kReading, kHanging };
  // One buffer and what is read into it. A hanging one belongs to a batch that is over.
  struct Slot {
    Use use = Use::kFree;
    std::size_t index = 0;  // Of the read in its batch.
    std::size_t got = 0;
    std::uint64_t device = 0;
  };
  struct Batch {
    std::span<const BatchRead> reads;
    const Done& done;
    std::size_t next = 0;     // The first read that has not begun.
    std::size_t reading = 0;  // How many are under way.
  };

  void begin(Batch& batch);
  void submit(const BatchRead& read, std::size_t slot);
  void take_completions(Batch& batch);
  // What one completion means: more to ask for, or the end of that read.
  std::optional<Result<ByteView>> completed(const BatchRead& read, std::size_t slot, int result);
  bool wait(Deadline deadline);
  void give_up(Batch& batch);
  bool hangs(std::uint64_t device) const;

  Ring ring_;
  BufferPool pool_;
  std::vector<Slot> slots_;
};

bool RingReader::hangs(std::uint64_t device) const {
  return device != 0 && std::ranges::any_of(slots_, [&](const Slot& s) {
           return s.use == Use::kHanging && s.device == device;
         });
}

void RingReader::submit(const BatchRead& read, std::size_t slot) {
  const auto got = slots_[slot].got;
  const auto buffer = pool_.slot(slot);
  // There is one entry per slot and a slot is submitted once at a time, so there is always one
  // free.
  io_uring_sqe* entry = ::io_uring_get_sqe(ring_.get());
  ::io_uring_prep_read(entry, read.fd, buffer.data() + got,
                       static_cast<unsigned>(read.length_bytes - got), read.offset_bytes + got);
  ::io_uring_sqe_set_data64(entry, slot);
}

std::optional<Result<ByteView>> RingReader::completed(const BatchRead& read, std::size_t slot,
                                                      int result) {
  auto& state = slots_[slot];
  if (result == -EINTR || result == -EAGAIN) return std::nullopt;
  if (result < 0) return Result<ByteView>(fail_errno(-result, "read"));
  state.got += static_cast<std::size_t>(result);
  if (result > 0 && !ended(state.got, read.length_bytes)) return std::nullopt;
  return Result<ByteView>(ByteView(pool_.slot(slot).first(state.got)));
}

// Begins as many reads as there are buffers.
void RingReader::begin(Batch& batch) {
  while (batch.next < batch.reads.size()) {
    const auto& read = batch.reads[batch.next];
    const auto free = std::ranges::find(slots_, Use::kFree, &Slot::use);
    if (read.length_bytes > kReadBytesMax) {
      batch.done(batch.next++, too_long());
    } else if (hangs(read.device)) {
      batch.done(batch.next++, fail(Reason::kTimedOut, "the device still does not answer"));
    } else if (free != slots_.end()) {
      *free = {Use::kReading, batch.next, 0, read.device};
      submit(read, static_cast<std::size_t>(free - slots_.begin()));
      ++batch.reading;
      ++batch.next;
    } else if (batch.reading > 0) {
      return;
    } else {
      batch.done(batch.next++, fail(Reason::kLimitsExceeded, "too many devices do not answer"));
    }
  }
}

void RingReader::take_completions(Batch& batch) {
  io_uring_cqe* cqe = nullptr;
  while (::io_uring_peek_cqe(ring_.get(), &cqe) == 0) {
    const auto tag = ::io_uring_cqe_get_data64(cqe);
    const int result = cqe->res;
    ::io_uring_cqe_seen(ring_.get(), cqe);
    if (tag >= slots_.size()) continue;  // A timeout's own completion.
    const auto slot = static_cast<std::size_t>(tag);
    auto& state = slots_[slot];
    if (state.use != Use::kReading) {  // The late answer to a read that was given up.
      state.use = Use::kFree;
      continue;
    }
    auto end = completed(batch.reads[state.index], slot, result);
    if (!end) {
      submit(batch.reads[state.index], slot);
      continue;
    }
    --batch.reading;
    batch.done(state.index, std::move(*end));
    state.use = Use::kFree;
  }
}

// False when nothing came by the deadline, or the ring failed.
bool RingReader::wait(Deadline deadline) {
  ::io_uring_submit(ring_.get());
  for (;;) {
    const auto left = deadline.left();
    __kernel_timespec timeout{left.count() / 1000, (left.count() % 1000) * 1'000'000};
    io_uring_cqe* cqe = nullptr;
    const int r = ::io_uring_wait_cqe_timeout(ring_.get(), &cqe, &timeout);
    if (r == 0) return true;
    if (r != -EINTR && r != -EAGAIN) return false;
    if (deadline.passed()) return false;
  }
}

void RingReader::give_up(Batch& batch) {
  for (auto& slot : slots_) {
    if (slot.use != Use::kReading) continue;
    slot.use = Use::kHanging;
    batch.done(slot.index, fail(Reason::kTimedOut, "the device did not answer in time"));
  }
  for (; batch.next < batch.reads.size(); ++batch.next)
    batch.done(batch.next, fail(Reason::kTimedOut, "no time was left to read from the device"));
}

void RingReader::read(std::span<const BatchRead> reads, const Done& done, Deadline deadline) {
  Batch batch{reads, done};
  take_completions(batch);  // Frees what has been answered since the last batch.
  begin(batch);
  while (batch.reading > 0) {
    if (!wait(deadline)) return give_up(batch);
    take_completions(batch);
    begin(batch);
  }
}

}  // namespace

Result<std::unique_ptr<BatchReader>> make_ring_reader(unsigned in_flight_max) {
  auto reader = std::make_unique<RingReader>(in_flight_max);
  if (const auto made = reader->make(); !made) return tl::unexpected(made.error());
  return std::unique_ptr<BatchReader>(std::move(reader));
}

std::unique_ptr<BatchReader> make_pread_reader() {
  return std::make_unique<PreadReader>();
}

std::unique_ptr<BatchReader> make_batch_reader() {
  auto ring = make_ring_reader();
  return ring ? std::move(*ring) : make_pread_reader();
}

}  // namespace coffer::agent
