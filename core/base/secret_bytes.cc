// SPDX-License-Identifier: Apache-2.0
#include "core/base/secret_bytes.h"

#include <string.h>  // NOLINT(modernize-deprecated-headers): explicit_bzero is not in <cstring>.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

namespace coffer {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kSlotBytes = 256;
constexpr std::size_t kChunkBytes = std::size_t{64} * 1024;
constexpr std::size_t kChunksMax = 64;
constexpr std::size_t kSlots = kChunkBytes / kSlotBytes;

std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Locked pages with an inaccessible page on both sides; null with errno set when they cannot be
// had.
std::byte* map_locked(std::size_t size_bytes) noexcept {
  const std::size_t inner = round_up(size_bytes, kPageBytes);
  void* whole =
      ::mmap(nullptr, inner + 2 * kPageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (whole == MAP_FAILED) return nullptr;
  auto* start = static_cast<std::byte*>(whole) + kPageBytes;
  const bool ready = ::mprotect(start, inner, PROT_READ | PROT_WRITE) == 0 &&
                     ::mlock(start, inner) == 0 && ::madvise(start, inner, MADV_DONTDUMP) == 0 &&
                     ::madvise(start, inner, MADV_WIPEONFORK) == 0;
  if (ready) return start;
  const int cause = errno;
  ::munmap(whole, inner + 2 * kPageBytes);
  errno = cause;
  return nullptr;
}

void unmap_locked(std::byte* start, std::size_t size_bytes) noexcept {
  ::munmap(start - kPageBytes, round_up(size_bytes, kPageBytes) + 2 * kPageBytes);
}

// Arena hands out runs of 256-byte slots from chunks of locked pages. Chunks are never given back:
// the arena stays as large as the most secrets ever alive at once.
class Arena {
 public:
  static Arena& instance() noexcept {
    // Never destroyed: secrets in static objects may be freed after it would be.
    // NOLINTNEXTLINE(bugprone-unhandled-exception-at-new): nothing goes on without it.
    static auto* arena = new Arena;
    return *arena;
  }

  std::byte* take(std::size_t size_bytes) noexcept {
    const std::size_t slots = round_up(size_bytes, kSlotBytes) / kSlotBytes;
    const std::scoped_lock lock(mutex_);
    for (auto& chunk : chunks_) {
      if (std::byte* found = chunk.take(slots)) return found;
    }
    if (chunks_.size() == kChunksMax) {
      errno = ENOMEM;
      return nullptr;
    }
    std::byte* start = map_locked(kChunkBytes);
    if (start == nullptr) return nullptr;
    chunks_.push_back({start, {}});
    return chunks_.back().take(slots);
  }

  void give_back(std::byte* bytes, std::size_t size_bytes) noexcept {
    const std::size_t slots = round_up(size_bytes, kSlotBytes) / kSlotBytes;
    const std::scoped_lock lock(mutex_);
    for (auto& chunk : chunks_) {
      if (bytes < chunk.start || bytes >= chunk.start + kChunkBytes) continue;
      const auto first = static_cast<std::size_t>(bytes - chunk.start) / kSlotBytes;
      chunk.mark(first, slots, false);
      return;
    }
  }

 private:
  struct Chunk {
    std::byte* start;
    std::array<std::uint64_t, kSlots / 64> used;  // A bit for each slot.

    std::byte* take(std::size_t slots) noexcept {
      std::size_t run = 0;
      for (std::size_t i = 0; i < kSlots; ++i) {
        // Most of a full chunk is passed over in words.
        if (i % 64 == 0 && used[i / 64] == ~std::uint64_t{0}) {
          run = 0;
          i += 63;
          continue;
        }
        if (run == 0) {
          const auto taken = static_cast<std::size_t>(std::countr_one(used[i / 64] >> (i % 64)));
          i += std::min(taken, 63 - i % 64);
        }
        run = is_used(i) ? 0 : run + 1;
        if (run < slots) continue;
        const std::size_t first = i + 1 - slots;
        mark(first, slots, true);
        return start + first * kSlotBytes;
      }
      return nullptr;
    }
    bool is_used(std::size_t i) const noexcept { return ((used[i / 64] >> (i % 64)) & 1U) != 0; }
    void mark(std::size_t first, std::size_t slots, bool taken) noexcept {
      for (std::size_t i = first; i < first + slots; ++i) {
        const std::uint64_t bit = std::uint64_t{1} << (i % 64);
        used[i / 64] = taken ? used[i / 64] | bit : used[i / 64] & ~bit;
      }
    }
  };

  std::mutex mutex_;  // Guards chunks_.
  std::vector<Chunk> chunks_;
};

bool belongs_to_arena(std::size_t reserved_bytes) {
  return reserved_bytes <= kChunkBytes / 4;
}

}  // namespace

void SecretBytes::WipeAndFree::operator()(std::byte* bytes) const noexcept {
  wipe({bytes, reserved_bytes});
  if (belongs_to_arena(reserved_bytes)) {
    Arena::instance().give_back(bytes, reserved_bytes);
  } else {
    unmap_locked(bytes, reserved_bytes);
  }
}

SecretBytes::SecretBytes(SecretBytes&& other) noexcept
    : pages_(std::move(other.pages_)), size_bytes_(std::exchange(other.size_bytes_, 0)) {}

SecretBytes& SecretBytes::operator=(SecretBytes&& other) noexcept {
  pages_ = std::move(other.pages_);
  size_bytes_ = std::exchange(other.size_bytes_, 0);
  return *this;
}

void SecretBytes::shrink(std::size_t size_bytes) noexcept {
  if (size_bytes >= size_bytes_) return;
  wipe(reveal_mutable().subspan(size_bytes));
  size_bytes_ = size_bytes;
}

Result<SecretBytes> SecretBytes::zeroed(std::size_t size_bytes) {
  if (size_bytes == 0) return SecretBytes();
  std::byte* bytes =
      belongs_to_arena(size_bytes) ? Arena::instance().take(size_bytes) : map_locked(size_bytes);
  // Whatever the system calls it (EPERM with no allowance at all), the caller can do one thing.
  if (bytes == nullptr) {
    return fail(Reason::kNoMemory,
                std::string("lock memory for a secret: ") + std::strerror(errno));
  }
  // The deleter remembers what was taken, so that shrink() leaves nothing behind.
  SecretBytes secret(Pages(bytes, WipeAndFree{size_bytes}), size_bytes);
  wipe(secret.reveal_mutable());
  return secret;
}

Result<SecretBytes> SecretBytes::random(std::size_t size_bytes) {
  auto secret = zeroed(size_bytes);
  if (!secret) return secret;
  auto rest = secret->reveal_mutable();
  while (!rest.empty()) {
    const ssize_t got = ::getrandom(rest.data(), rest.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "draw random bytes");
    rest = rest.subspan(static_cast<std::size_t>(got));
  }
  return secret;
}

Result<SecretBytes> SecretBytes::copy_of(std::span<const std::byte> bytes) {
  auto secret = zeroed(bytes.size());
  if (secret) std::copy(bytes.begin(), bytes.end(), secret->reveal_mutable().begin());
  return secret;
}

bool equal_constant_time(std::span<const std::byte> a, std::span<const std::byte> b) noexcept {
  if (a.size() != b.size()) return false;
  volatile std::uint8_t difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = static_cast<std::uint8_t>(difference | std::to_integer<unsigned>(a[i] ^ b[i]));
  }
  return difference == 0;
}

void wipe(std::span<std::byte> bytes) noexcept {
  if (!bytes.empty()) ::explicit_bzero(bytes.data(), bytes.size());
}

Result<void> forbid_core_dumps() {
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return fail_errno(errno, "forbid core dumps");
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return fail_errno(errno, "forbid core files");
  return {};
}

}  // namespace coffer
