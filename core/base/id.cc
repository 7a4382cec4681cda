// SPDX-License-Identifier: Apache-2.0
#include "core/base/id.h"

#include <algorithm>
#include <cstdint>

#include "core/base/encoding.h"
#include "core/base/secret_bytes.h"

namespace coffer {
namespace {

bool is_dash_position(std::size_t i) {
  return i == 8 || i == 13 || i == 18 || i == 23;
}

}  // namespace

Result<Uuid> Uuid::parse(std::string_view text) {
  const auto malformed = [&] {
    return fail(Reason::kInvalidArgs, "not a lower-case UUID: '" + printable(text, 64) + "'");
  };
  if (text.size() != kTextLength) return malformed();
  std::string digits;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_dash_position(i) != (text[i] == '-')) return malformed();
    if (text[i] != '-') digits += text[i];
  }
  const auto bytes = from_hex(digits);
  if (!bytes) return malformed();
  return from_bytes(*bytes);
}

Result<Uuid> Uuid::from_bytes(ByteView sixteen_bytes) {
  Uuid uuid;
  if (sixteen_bytes.size() != uuid.bytes_.size()) {
    return fail(Reason::kInvalidArgs, "a UUID has 16 bytes");
  }
  std::copy(sixteen_bytes.begin(), sixteen_bytes.end(), uuid.bytes_.begin());
  return uuid;
}

Result<Uuid> Uuid::random() {
  const auto drawn = SecretBytes::random(16);
  if (!drawn) return pass(drawn.error(), "make a UUID");
  auto uuid = from_bytes(drawn->reveal());
  uuid->set_version(4);
  return uuid;
}

Result<Uuid> Uuid::made_at(WallTime now) {
  const auto since_1970 = now.time_since_epoch().count();
  const auto msec = static_cast<std::uint64_t>(since_1970) / 1000;
  auto uuid = random();
  if (!uuid || since_1970 < 0 || msec >> 48 != 0) return uuid;
  // RFC 9562 section 5.7, and section 6.2 method 3: the 12 bits behind the milliseconds are the
  // fraction of one.
  const std::uint64_t fraction = (static_cast<std::uint64_t>(since_1970) % 1000) * 4096 / 1000;
  for (unsigned i = 0; i < 6; ++i) uuid->bytes_[i] = static_cast<std::byte>(msec >> (40 - 8 * i));
  uuid->bytes_[6] = static_cast<std::byte>(fraction >> 8);
  uuid->bytes_[7] = static_cast<std::byte>(fraction);
  uuid->set_version(7);
  return uuid;
}

void Uuid::set_version(unsigned version) noexcept {
  // RFC 9562 section 4: the version, and the variant 10.
  bytes_[6] = (bytes_[6] & std::byte{0x0F}) | static_cast<std::byte>(version << 4);
  bytes_[8] = (bytes_[8] & std::byte{0x3F}) | std::byte{0x80};
}

std::string Uuid::str() const {
  std::string text = to_hex(bytes_);
  for (const std::size_t dash : {8U, 13U, 18U, 23U}) text.insert(dash, 1, '-');
  return text;
}

}  // namespace coffer
