// SPDX-License-Identifier: Apache-2.0
#include "core/base/bytes.h"

#include <algorithm>

namespace coffer {
namespace {

constexpr std::size_t kRoomBytes = 128;

// The length in bytes of the UTF-8 sequence at the start of `text`, 0 when it is malformed.
std::size_t sequence_length(std::string_view text) noexcept {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto continues = [&](std::size_t i) { return i < text.size() && (at(i) & 0xC0U) == 0x80; };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (!continues(1) || !continues(2)) return 0;
    if (first == 0xE0 && at(1) < 0xA0) return 0;  // Overlong.
    if (first == 0xED && at(1) > 0x9F) return 0;  // Surrogates.
    return 3;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if (first == 0xF0 && at(1) < 0x90) return 0;  // Overlong.
    if (first == 0xF4 && at(1) > 0x8F) return 0;  // Past U+10FFFF.
    return 4;
  }
  return 0;
}

template <class T>
void append_big_endian(Bytes& out, T value) {
  for (std::size_t i = sizeof(T); i-- > 0;) {
    out.push_back(static_cast<std::byte>((value >> (8 * i)) & 0xFFU));
  }
}

template <class T>
T from_big_endian(ByteView bytes) {
  T value = 0;
  for (const std::byte b : bytes) value = static_cast<T>((value << 8U) | std::to_integer<T>(b));
  return value;
}

}  // namespace

ByteWriter& ByteWriter::u8(std::uint8_t value) {
  out_.push_back(static_cast<std::byte>(value));
  return *this;
}

ByteWriter& ByteWriter::u16(std::uint16_t value) {
  return u8(static_cast<std::uint8_t>(value >> 8U)).u8(static_cast<std::uint8_t>(value & 0xFFU));
}

ByteWriter& ByteWriter::u32(std::uint32_t value) {
  append_big_endian(out_, value);
  return *this;
}

ByteWriter& ByteWriter::u64(std::uint64_t value) {
  append_big_endian(out_, value);
  return *this;
}

ByteWriter& ByteWriter::raw(ByteView bytes) {
  // Most of what is written is small, and begins with a few bytes.
  if (out_.capacity() < out_.size() + bytes.size()) {
    out_.reserve(std::max(kRoomBytes, 2 * (out_.size() + bytes.size())));
  }
  out_.insert(out_.end(), bytes.begin(), bytes.end());
  return *this;
}

ByteWriter& ByteWriter::bytes(ByteView bytes) {
  return u32(static_cast<std::uint32_t>(bytes.size())).raw(bytes);
}

ByteWriter& ByteWriter::text(std::string_view text) {
  return bytes(as_bytes(text));
}

ByteView ByteReader::take(std::size_t size_bytes) {
  if (!good_ || size_bytes > rest_.size()) {
    good_ = false;
    return {};
  }
  const auto taken = rest_.first(size_bytes);
  rest_ = rest_.subspan(size_bytes);
  return taken;
}

std::uint8_t ByteReader::u8() {
  return static_cast<std::uint8_t>(from_big_endian<unsigned>(take(1)));
}
std::uint16_t ByteReader::u16() {
  return static_cast<std::uint16_t>(from_big_endian<unsigned>(take(2)));
}
std::uint32_t ByteReader::u32() {
  return from_big_endian<std::uint32_t>(take(4));
}
std::uint64_t ByteReader::u64() {
  return from_big_endian<std::uint64_t>(take(8));
}

bool ByteReader::boolean() {
  const auto value = u8();
  if (value > 1) reject();
  return value == 1;
}

ByteView ByteReader::raw(std::size_t size_bytes) {
  return take(size_bytes);
}

ByteView ByteReader::bytes(std::size_t size_bytes_max) {
  const std::size_t size_bytes = u32();
  if (size_bytes > size_bytes_max) reject();
  return take(size_bytes);
}

std::string ByteReader::text(std::size_t size_bytes_max) {
  const auto view = as_text(bytes(size_bytes_max));
  if (!is_utf8(view) || view.find('\0') != std::string_view::npos) {
    reject();
    return {};
  }
  return std::string(view);
}

std::size_t ByteReader::count(std::size_t count_max, std::size_t item_bytes_min) {
  const std::size_t value = u32();
  if (value > count_max || (item_bytes_min != 0 && value > rest_.size() / item_bytes_min)) {
    reject();
    return 0;
  }
  return value;
}

Result<void> ByteReader::finish(Reason reason, std::string_view what) const {
  if (!good_) return fail(reason, std::string(what) + " is cut short or holds a value not allowed");
  if (!rest_.empty()) return fail(reason, std::string(what) + " has bytes behind its end");
  return {};
}

bool is_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string printable(std::string_view text, std::size_t size_max) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    const auto first = static_cast<unsigned char>(text.front());
    const bool control =
        first < 0x20 || first == 0x7F ||
        (first == 0xC2 && length == 2 && static_cast<unsigned char>(text[1]) < 0xA0);
    const std::string_view piece = length == 0 || control ? "?" : text.substr(0, length);
    if (out.size() + piece.size() > size_max) break;
    out += piece;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

}  // namespace coffer
