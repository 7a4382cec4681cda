// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"

namespace coffer {

using Bytes = std::vector<std::byte>;  // Public bytes. Key material goes into SecretBytes.
using ByteView = std::span<const std::byte>;

inline ByteView as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// ByteWriter appends the canonical binary form that every record and message of Coffer uses:
// integers big-endian and of fixed width, byte strings and texts behind a 32-bit length.
class ByteWriter {
 public:
  ByteWriter& u8(std::uint8_t value);
  ByteWriter& u16(std::uint16_t value);
  ByteWriter& u32(std::uint32_t value);
  ByteWriter& u64(std::uint64_t value);
  ByteWriter& boolean(bool value) { return u8(value ? 1 : 0); }
  ByteWriter& raw(ByteView bytes);          // Without a length: the format fixes it.
  ByteWriter& bytes(ByteView bytes);        // u32 length, then the bytes.
  ByteWriter& text(std::string_view text);  // The same for text.

  std::size_t size() const noexcept { return out_.size(); }
  const Bytes& view() const noexcept { return out_; }
  Bytes take() { return std::move(out_); }

 private:
  Bytes out_;
};

// ByteReader takes the same form apart. It never reads past the end: the first read that would
// makes the reader bad, and that and all later reads give zero or empty. A parser reads everything,
// then calls finish() once.
class ByteReader {
 public:
  explicit ByteReader(ByteView in) noexcept : rest_(in) {}

  std::uint8_t u8();
  std::uint16_t u16();
  std::uint32_t u32();
  std::uint64_t u64();
  bool boolean();  // Bad unless 0 or 1.
  ByteView raw(std::size_t size_bytes);
  ByteView bytes(std::size_t size_bytes_max);
  std::string text(std::size_t size_bytes_max);  // Bad unless UTF-8 without NUL.
  // A count of things to follow, each at least `item_bytes_min` long: bad when more than
  // `count_max` or than could be there, so that a count can be trusted for a reserve().
  std::size_t count(std::size_t count_max, std::size_t item_bytes_min);

  // Marks the input as bad: for a value that the format does not allow.
  void reject() noexcept { good_ = false; }
  bool good() const noexcept { return good_; }
  std::size_t rest_bytes() const noexcept { return rest_.size(); }

  // An error with `reason` unless everything was good and read to the last byte.
  Result<void> finish(Reason reason, std::string_view what) const;

 private:
  ByteView take(std::size_t size_bytes);

  ByteView rest_;
  bool good_ = true;
};

// Whether `text` is well-formed UTF-8 (RFC 3629: no surrogates, nothing overlong).
bool is_utf8(std::string_view text) noexcept;

// `text` with every byte that is not printable UTF-8 replaced by '?', cut to `size_max` bytes: for
// strings from disks and callers that go to a terminal, a log or the bus.
std::string printable(std::string_view text, std::size_t size_max);

}  // namespace coffer
