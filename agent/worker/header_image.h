// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace coffer::agent {

// HeaderImage keeps the bytes that were read from a device, without the pages that are zero: of a
// header of 128 KiB mostly a tenth. Activation uses these bytes and reads none again.
class HeaderImage {
 public:
  HeaderImage() = default;
  explicit HeaderImage(ByteView bytes);

  std::size_t size_bytes() const noexcept { return size_bytes_; }
  Bytes bytes() const;

  // Writes the bytes into `fd` from `offset_bytes` on, leaving holes for the zero pages.
  Result<void> write_to(int fd, std::uint64_t offset_bytes) const;

  // An anonymous file that starts with them, `size_bytes` long or as long as they are: what
  // libcryptsetup takes for a header device (it refuses less than the areas the header names).
  Result<UniqueFd> to_memfd(std::uint64_t size_bytes) const;

 private:
  struct Page {
    std::size_t offset_bytes;
    Bytes bytes;
  };
  std::size_t size_bytes_ = 0;
  std::vector<Page> pages_;
};

}  // namespace coffer::agent
