// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "cli/selftest/vector_json.h"
#include "core/base/secret_bytes.h"

namespace coffer::cli {

// What the product makes of a test, to be held against what the file says it should be.
enum class Outcome : std::uint8_t { kMatches, kDiffers, kRefused, kSkipped };

// One test, and the group it stands in.
struct VectorTest {
  const boost::json::object& group;
  const boost::json::object& test;

  Bytes hex(std::string_view name) const { return hex_of(test, name); }
};

// A text that was decrypted or derived.
inline Outcome compare(const Result<SecretBytes>& found, const Bytes& wanted) {
  if (!found) return Outcome::kRefused;
  return std::ranges::equal(found->reveal(), wanted) ? Outcome::kMatches : Outcome::kDiffers;
}

// A wrap or sealing must also be what the product itself makes of the plaintext.
inline Outcome both_ways(Outcome opened, const Result<Bytes>& made, const Bytes& wanted) {
  if (opened != Outcome::kMatches) return opened;
  return made && *made == wanted ? Outcome::kMatches : Outcome::kDiffers;
}

// Something that holds or is refused: a signature, a MAC.
inline Outcome holds(bool held) {
  return held ? Outcome::kMatches : Outcome::kRefused;
}

// A test that is acceptable may go either way, but never give another value.
inline bool passes(const std::string& expected, Outcome outcome) {
  if (expected == "valid") return outcome == Outcome::kMatches;
  if (expected == "invalid") return outcome != Outcome::kMatches;
  return outcome != Outcome::kDiffers;
}

// Signatures by RSA and ECDSA: wycheproof_signatures.cc.
Outcome run_rsa_pkcs1_signature(const VectorTest& test);
Outcome run_rsa_pss(const VectorTest& test);
Outcome run_ecdsa(const VectorTest& test);
Outcome run_ecdsa_p1363(const VectorTest& test);

}  // namespace coffer::cli
