// SPDX-License-Identifier: Apache-2.0
#include "tests/support/memory_scan.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <sstream>
#include <utility>

#include "core/base/unique_fd.h"

namespace coffer::tests {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 20U;
constexpr std::size_t kOverlapBytes = 64;
constexpr std::uint64_t kRegionBytesMax = std::uint64_t{4} << 30U;

struct Region {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::string line;
};

std::vector<Region> readable_regions(pid_t pid) {
  std::vector<Region> regions;
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  for (std::string line; std::getline(maps, line);) {
    Region region;
    std::string permissions;
    char dash = 0;
    std::istringstream words(line);
    words >> std::hex >> region.start >> dash >> region.end >> permissions;
    // The kernel's own pages are not the process's memory.
    if (permissions.empty() || permissions.front() != 'r' ||
        line.find("[vvar") != std::string::npos || line.find("[vsyscall]") != std::string::npos)
      continue;
    // A sanitizer's shadow of the address space: terabytes of notes about memory, none of its
    // bytes.
    if (region.end - region.start > kRegionBytesMax) continue;
    region.line = line;
    regions.push_back(std::move(region));
  }
  return regions;
}

// Stopped while it exists.
class Stopped {
 public:
  explicit Stopped(pid_t pid) : pid_(pid) {
    ::kill(pid_, SIGSTOP);
    // Until /proc says so: the signal may take a moment.
    for (int i = 0; i < 1000 && !is_stopped(); ++i) ::usleep(1000);
  }
  ~Stopped() { ::kill(pid_, SIGCONT); }
  Stopped(const Stopped&) = delete;
  Stopped& operator=(const Stopped&) = delete;

 private:
  bool is_stopped() const {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/stat");
    std::string text;
    std::getline(file, text);
    const auto close = text.rfind(')');
    return close != std::string::npos && close + 2 < text.size() &&
           (text[close + 2] == 'T' || text[close + 2] == 't');
  }
  pid_t pid_;
};

}  // namespace

Needle::Needle(std::string name, std::span<const std::byte> secret) : name_(std::move(name)) {
  const auto window_bytes = std::min(kWindowBytes, secret.size());
  for (std::size_t at = 0; at + window_bytes <= secret.size(); ++at) {
    Bytes masked;
    for (const auto b : secret.subspan(at, window_bytes)) masked.push_back(b ^ kMask);
    masked_windows_.push_back(std::move(masked));
  }
}

namespace {

// All windows of all needles by their first two bytes: for almost every place in memory one look
// tells that none starts there.
class WindowIndex {
 public:
  explicit WindowIndex(std::span<const Needle> needles) : buckets_(kBuckets), used_(kBuckets) {
    for (std::size_t i = 0; i < needles.size(); ++i) {
      for (const auto& window : needles[i].masked_windows()) {
        const auto at = bucket(window[0] ^ Needle::kMask, window[1] ^ Needle::kMask);
        buckets_[at].push_back({i, &window});
        used_[at] = 1;
      }
    }
  }

  // Adds what `memory` holds to `counts`, one per needle.
  void count(std::span<const std::byte> memory, std::vector<std::size_t>& counts) const {
    for (std::size_t at = next_used(memory, 0); at + 1 < memory.size();
         at = next_used(memory, at + 1)) {
      for (const auto& entry : buckets_[bucket(memory[at], memory[at + 1])]) {
        if (holds(memory.subspan(at), *entry.masked)) ++counts[entry.needle];
      }
    }
  }

 private:
  static constexpr std::size_t kBuckets = 65536;
  struct Entry {
    std::size_t needle;
    const Bytes* masked;
  };

  // The first place from `at` on where a window may start. It looks at every byte of a process: no
  // sanitizer looks over its shoulder.
  __attribute__((no_sanitize("address", "thread", "undefined"))) std::size_t next_used(
      std::span<const std::byte> memory, std::size_t at) const {
    const std::byte* const bytes = memory.data();
    const std::uint8_t* const used = used_.data();
    const std::size_t last = memory.empty() ? 0 : memory.size() - 1;
    while (at < last && used[(static_cast<std::size_t>(bytes[at]) << 8U) |
                             static_cast<std::size_t>(bytes[at + 1])] == 0)
      ++at;
    return at;
  }

  static std::size_t bucket(std::byte first, std::byte second) {
    return (std::to_integer<std::size_t>(first) << 8U) | std::to_integer<std::size_t>(second);
  }
  static bool holds(std::span<const std::byte> memory, const Bytes& masked) {
    return memory.size() >= masked.size() &&
           std::equal(masked.begin(), masked.end(), memory.begin(),
                      [](std::byte a, std::byte b) { return (a ^ Needle::kMask) == b; });
  }

  std::vector<std::vector<Entry>> buckets_;
  std::vector<std::uint8_t> used_;  // 1: the bucket has an entry.
};

}  // namespace

Result<std::vector<Hit>> scan_process(pid_t pid, std::span<const Needle> needles) {
  const Stopped stopped(pid);
  const UniqueFd memory(
      ::open(("/proc/" + std::to_string(pid) + "/mem").c_str(), O_RDONLY | O_CLOEXEC));
  if (!memory.valid()) return fail_errno(errno, "open the memory of a process");

  const WindowIndex index(needles);
  std::vector<Hit> hits;
  Bytes chunk(kChunkBytes + kOverlapBytes);
  for (const auto& region : readable_regions(pid)) {
    std::vector<std::size_t> counts(needles.size(), 0);
    for (auto at = region.start; at < region.end; at += kChunkBytes) {
      const auto wanted = std::min<std::uint64_t>(chunk.size(), region.end - at);
      const ssize_t got = ::pread(memory.get(), chunk.data(), wanted, static_cast<off_t>(at));
      if (got <= 0) continue;  // A page that cannot be read holds nothing we could find.
      index.count(std::span(chunk).first(static_cast<std::size_t>(got)), counts);
    }
    for (std::size_t i = 0; i < needles.size(); ++i) {
      if (counts[i] > 0) hits.push_back({needles[i].name(), region.line, counts[i]});
    }
  }
  return hits;
}

std::string describe(const std::vector<Hit>& hits) {
  std::string out;
  for (const auto& hit : hits)
    out += hit.needle + ": " + std::to_string(hit.count) + " in " + hit.where + "\n";
  return out;
}

}  // namespace coffer::tests
