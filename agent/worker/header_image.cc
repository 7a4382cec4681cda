// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/header_image.h"

#include <algorithm>

#include "core/base/files.h"

namespace coffer::agent {
namespace {
constexpr std::size_t kPageBytes = 4096;
}  // namespace

HeaderImage::HeaderImage(ByteView bytes) : size_bytes_(bytes.size()) {
  for (std::size_t offset = 0; offset < bytes.size(); offset += kPageBytes) {
    const auto page = bytes.subspan(offset, std::min(kPageBytes, bytes.size() - offset));
    if (std::ranges::all_of(page, [](std::byte b) { return b == std::byte{0}; })) continue;
    pages_.push_back({offset, Bytes(page.begin(), page.end())});
  }
}

Bytes HeaderImage::bytes() const {
  Bytes all(size_bytes_);
  for (const auto& page : pages_)
    std::ranges::copy(page.bytes, all.begin() + static_cast<std::ptrdiff_t>(page.offset_bytes));
  return all;
}

Result<void> HeaderImage::write_to(int fd, std::uint64_t offset_bytes) const {
  for (const auto& page : pages_) {
    const auto at = static_cast<off_t>(offset_bytes + page.offset_bytes);
    if (const auto written = write_exactly_at(fd, page.bytes, at); !written) return written;
  }
  return {};
}

Result<UniqueFd> HeaderImage::to_memfd(std::uint64_t size_bytes) const {
  auto memfd = make_memfd("coffer-header", std::max<std::uint64_t>(size_bytes, size_bytes_));
  if (!memfd) return tl::unexpected(memfd.error());
  if (const auto written = write_to(memfd->get(), 0); !written)
    return tl::unexpected(written.error());
  return std::move(*memfd);
}

}  // namespace coffer::agent
