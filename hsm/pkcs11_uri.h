// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace coffer::hsm {

// How a token presents itself, without the blanks that PKCS#11 fills its fields with.
struct TokenIdentity {
  std::string label;
  std::string manufacturer;
  std::string model;
  std::string serial;
  std::uint64_t slot_id = 0;
};

// Pkcs11Uri names a token, or an object in it, by RFC 7512. Parsed by p11-kit; stricter than it, so
// that what is accepted can be read in one way alone:
//
//   - at most kTextBytesMax bytes of printable ASCII, no blanks;
//   - the attributes below, each at most once; none that p11-kit does not know or could not hold;
//   - no query part: the module's path and the PIN's place stand in the configuration, and a
//     `pin-value` must never stand in a text at all.
struct Pkcs11Uri {
  static constexpr std::size_t kTextBytesMax = 512;

  std::optional<std::string> token;
  std::optional<std::string> manufacturer;
  std::optional<std::string> model;
  std::optional<std::string> serial;
  std::optional<std::uint64_t> slot_id;
  std::optional<std::string> object;
  std::optional<Bytes> id;
  std::optional<unsigned long> object_class;  // CKO_…

  // kConfigInvalid: not such a URI.
  static Result<Pkcs11Uri> parse(std::string_view text);

  // Whether everything that this URI says about a token is so.
  bool matches(const TokenIdentity& found) const;
  // Whether it says anything about a token: one that does not would match all.
  bool names_token() const;
};

}  // namespace coffer::hsm
