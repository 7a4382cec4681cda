// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "core/base/result.h"

namespace coffer {

// SecretBytes owns key material, in memory that is locked, left out of core dumps and wiped in a
// forked child. Small secrets come from a process-wide arena of such pages (one mlock for all: a
// lone mmap, mlock and munmap costs 4.4 µs); larger ones get pages of their own. The memory is
// wiped when it is freed, so every path that frees does: destruction, move assignment, early
// return.
//
// Each object belongs to one thread at a time; the arena behind them is thread-safe.
class SecretBytes final {
 public:
  SecretBytes() = default;

  // kNoMemory: the process may not lock that many bytes (RLIMIT_MEMLOCK).
  static Result<SecretBytes> zeroed(std::size_t size_bytes);
  // From the kernel's random generator.
  static Result<SecretBytes> random(std::size_t size_bytes);
  // A copy of `bytes`; the caller wipes its own.
  static Result<SecretBytes> copy_of(std::span<const std::byte> bytes);

  std::size_t size() const noexcept { return size_bytes_; }
  bool empty() const noexcept { return size_bytes_ == 0; }

  // The only ways to the bytes. The view must not outlive *this.
  std::span<const std::byte> reveal() const noexcept { return {pages_.get(), size_bytes_}; }
  std::span<std::byte> reveal_mutable() noexcept { return {pages_.get(), size_bytes_}; }

  // Wipes what lies behind `size_bytes` and forgets it. `size_bytes` is at most size().
  void shrink(std::size_t size_bytes) noexcept;

  SecretBytes(SecretBytes&& other) noexcept;
  SecretBytes& operator=(SecretBytes&& other) noexcept;
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes() = default;

 private:
  struct WipeAndFree {
    std::size_t reserved_bytes;
    WipeAndFree() noexcept : reserved_bytes(0) {}
    explicit WipeAndFree(std::size_t reserved) noexcept : reserved_bytes(reserved) {}
    void operator()(std::byte* bytes) const noexcept;
  };
  using Pages = std::unique_ptr<std::byte[], WipeAndFree>;

  SecretBytes(Pages pages, std::size_t size_bytes) noexcept
      : pages_(std::move(pages)), size_bytes_(size_bytes) {}

  Pages pages_;
  std::size_t size_bytes_ = 0;
};

// Compares in a time that depends on the lengths alone.
bool equal_constant_time(std::span<const std::byte> a, std::span<const std::byte> b) noexcept;

// Overwrites memory in a way that the compiler keeps.
void wipe(std::span<std::byte> bytes) noexcept;

// Makes this process undumpable and untraceable by others of its user, and its core files empty
// (PR_SET_DUMPABLE, RLIMIT_CORE). Programs that may hold a secret call it first.
Result<void> forbid_core_dumps();

}  // namespace coffer
