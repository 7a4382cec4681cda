// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>

#include <algorithm>
#include <vector>

#include "cli/selftest/luks2_vectors.h"
#include "core/crypto/digest.h"
#include "core/luks2/header.h"
#include "core/luks2/token.h"
#include "tests/support/paths.h"

namespace coffer::tests {

// All header cases, read once per program.
inline const std::vector<cli::HeaderCase>& header_cases() {
  static const auto cases = cli::load_header_cases(vectors_dir() / "luks2");
  if (!cases) {
    ADD_FAILURE() << cases.error().str();
    static const std::vector<cli::HeaderCase> none;
    return none;
  }
  return *cases;
}

inline const cli::HeaderCase& header_case(std::string_view name) {
  const auto found = std::ranges::find(header_cases(), name, &cli::HeaderCase::name);
  if (found == header_cases().end()) throw std::runtime_error("no such case: " + std::string(name));
  return *found;
}

// The header of a case that must parse.
inline luks2::Header header_of(std::string_view name) {
  const auto& one = header_case(name);
  auto header = luks2::parse_header(cli::device_start(one), one.device_bytes);
  if (!header) throw std::runtime_error(header.error().str());
  return std::move(*header);
}

// The good header that the hostile ones were made from.
inline luks2::Header baseline() {
  return header_of("unchanged");
}

// Copies the first copy's JSON area to the second and puts both checksums right: for tests that
// change the first.
inline void repair_checksums(std::span<std::byte> start) {
  constexpr std::size_t kCopyBytes = 16384;
  const auto first = start.first(kCopyBytes);
  const auto second = start.subspan(kCopyBytes, kCopyBytes);
  std::ranges::copy(first.subspan(luks2::kBinaryHeaderBytes),
                    second.begin() + luks2::kBinaryHeaderBytes);
  for (const auto copy : {first, second}) {
    std::ranges::fill(copy.subspan(448, 64), std::byte{0});
    std::ranges::copy(crypto::sha256(copy), copy.begin() + 448);
  }
}

inline Bytes some_bytes(std::size_t size, std::uint8_t first) {
  Bytes out(size);
  for (auto& b : out) b = static_cast<std::byte>(first++);
  return out;
}

inline luks2::Token some_token() {
  luks2::Token token;
  token.generation = 7;
  token.context = some_bytes(120, 1);
  token.wraps = {some_bytes(150, 2), some_bytes(600, 3)};
  token.records = {some_bytes(300, 4)};
  token.keyslots = {3, 0};
  return token;
}

}  // namespace coffer::tests
