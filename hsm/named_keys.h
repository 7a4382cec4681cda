// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/id.h"

namespace coffer::hsm {

// A key by its names, and what became of it.
struct NamedKey {
  CmkId id;
  std::string alias;  // "": its record does not tell.
  std::string why;    // Printable, at most NamedKeys::kWhyBytesMax.

  std::string str() const;  // "3f2b8c1e-… (disks): why"
};

// NamedKeys are keys that an operator is to hear of: all are counted, and the first kNamedMax kept
// by name.
struct NamedKeys {
  static constexpr std::size_t kNamedMax = 10'000;
  static constexpr std::size_t kWhyBytesMax = 400;
  static constexpr std::size_t kEncodedBytesMax = 8U << 20U;

  std::uint64_t count = 0;
  std::vector<NamedKey> keys{};

  bool empty() const noexcept { return count == 0; }
  void add(const CmkId& id, const std::string& alias, const std::string& why);
  // One in a line, and how many there are beside those.
  std::string lines(const std::string& before_each = "") const;

  // From a child process to its parent. What is malformed makes `in` bad.
  void write(ByteWriter& out) const;
  static NamedKeys read(ByteReader& in);
};

}  // namespace coffer::hsm
