// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/crypto/sm2.h"

namespace coffer::crypto {
namespace {

constexpr std::uint8_t kInteger = 0x02;
constexpr std::uint8_t kOctetString = 0x04;
constexpr std::uint8_t kSequence = 0x30;

void write_head(ByteWriter& out, std::uint8_t tag, std::size_t size_bytes) {
  out.u8(tag);
  if (size_bytes >= 256) {
    out.u8(0x82).u16(static_cast<std::uint16_t>(size_bytes));
  } else {
    if (size_bytes >= 128) out.u8(0x81);
    out.u8(static_cast<std::uint8_t>(size_bytes));
  }
}

void write_integer(ByteWriter& out, ByteView number) {
  while (number.size() > 1 && number.front() == std::byte{0}) number = number.subspan(1);
  const bool needs_sign = number.front() >= std::byte{0x80};
  write_head(out, kInteger, number.size() + (needs_sign ? 1 : 0));
  if (needs_sign) out.u8(0);
  out.raw(number);
}

void write_octets(ByteWriter& out, ByteView bytes) {
  write_head(out, kOctetString, bytes.size());
  out.raw(bytes);
}

// The content of what follows, which must have `tag`. Sizes of up to two bytes.
ByteView read_value(ByteReader& in, std::uint8_t tag) {
  if (in.u8() != tag) in.reject();
  std::size_t size = in.u8();
  if (size == 0x81) {
    size = in.u8();
  } else if (size == 0x82) {
    size = in.u16();
  } else if (size >= 128) {
    in.reject();
  }
  return in.raw(size);
}

void read_integer(ByteReader& in, std::span<std::byte> out) {
  auto number = read_value(in, kInteger);
  if (number.size() > 1 && number.front() == std::byte{0}) number = number.subspan(1);
  if (number.empty() || number.size() > out.size()) return in.reject();
  std::ranges::copy(number, out.last(number.size()).begin());
}

}  // namespace

Bytes encode_sm2_ciphertext(const Sm2Ciphertext& ciphertext) {
  ByteWriter content;
  write_integer(content, ciphertext.x);
  write_integer(content, ciphertext.y);
  write_octets(content, ciphertext.hash);
  write_octets(content, ciphertext.text);
  ByteWriter out;
  write_head(out, kSequence, content.size());
  return out.raw(content.view()).take();
}

Result<Sm2Ciphertext> parse_sm2_ciphertext(ByteView der) {
  constexpr std::string_view kWhat = "SM2 ciphertext";
  ByteReader whole(der);
  ByteReader in(read_value(whole, kSequence));
  if (const auto good = whole.finish(Reason::kBlobInvalid, kWhat); !good)
    return tl::unexpected(good.error());
  Sm2Ciphertext out;
  read_integer(in, out.x);
  read_integer(in, out.y);
  const auto hash = read_value(in, kOctetString);
  const auto text = read_value(in, kOctetString);
  if (hash.size() != out.hash.size() || text.empty() || text.size() > kSm2TextBytesMax) in.reject();
  if (const auto good = in.finish(Reason::kBlobInvalid, kWhat); !good)
    return tl::unexpected(good.error());
  std::ranges::copy(hash, out.hash.begin());
  out.text.assign(text.begin(), text.end());
  // Sizes and numbers can be written in more than one way, of which DER allows one.
  if (!std::ranges::equal(encode_sm2_ciphertext(out), der))
    return fail(Reason::kBlobInvalid, "the SM2 ciphertext is not DER");
  return out;
}

}  // namespace coffer::crypto
