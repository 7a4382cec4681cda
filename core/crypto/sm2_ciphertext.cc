// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/crypto/der.h"
#include "core/crypto/sm2.h"

namespace coffer::crypto {
namespace {

void write_integer(ByteWriter& out, ByteView number) {
  while (number.size() > 1 && number.front() == std::byte{0}) number = number.subspan(1);
  const bool needs_sign = number.front() >= std::byte{0x80};
  write_der_head(out, kDerInteger, number.size() + (needs_sign ? 1 : 0));
  if (needs_sign) out.u8(0);
  out.raw(number);
}

void write_octets(ByteWriter& out, ByteView bytes) {
  write_der_head(out, kDerOctetString, bytes.size());
  out.raw(bytes);
}

void read_integer(ByteReader& in, std::span<std::byte> out) {
  const auto number = read_der_number(in);
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
  write_der_head(out, kDerSequence, content.size());
  return out.raw(content.view()).take();
}

Result<Sm2Ciphertext> parse_sm2_ciphertext(ByteView der) {
  constexpr std::string_view kWhat = "SM2 ciphertext";
  ByteReader whole(der);
  ByteReader in(read_der(whole, kDerSequence));
  if (const auto good = whole.finish(Reason::kBlobInvalid, kWhat); !good)
    return tl::unexpected(good.error());
  Sm2Ciphertext out;
  read_integer(in, out.x);
  read_integer(in, out.y);
  const auto hash = read_der(in, kDerOctetString);
  const auto text = read_der(in, kDerOctetString);
  if (hash.size() != out.hash.size() || text.empty() || text.size() > kSm2TextBytesMax) in.reject();
  if (const auto good = in.finish(Reason::kBlobInvalid, kWhat); !good)
    return tl::unexpected(good.error());
  std::ranges::copy(hash, out.hash.begin());
  out.text.assign(text.begin(), text.end());
  return out;
}

}  // namespace coffer::crypto
