// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <span>
#include <string>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/secret_bytes.h"
#include "core/keyring/key_vault.h"
#include "tests/support/result_matchers.h"

// What tests of tokens that fail have in common, whichever maker's they are.
namespace coffer::tests {

inline Deadline soon() {
  return Deadline::after(std::chrono::seconds(60));
}

inline keyring::KeyContext data_context() {
  keyring::KeyContext context;
  context.purpose = keyring::Purpose::kEnvelopeData;
  context.key_bytes = 32;
  return context;
}

// A token that fails says nothing against the data, and is no mistake of ours.
inline void expect_no_blame(const Error& error, const std::string& line) {
  EXPECT_NE(error.code(), Errc::kCorrupted) << line << error.str();
  EXPECT_NE(error.code(), Errc::kInternal) << line << error.str();
}

// A key, and what is used under it.
struct Used {
  ByteView record;
  std::span<const keyring::KeyVault::Plain> keys;  // One.
  std::span<const keyring::Presented> presented;   // The same, wrapped.
  const keyring::CmkParameters& another;           // To be made.
};

// One use of each kind while the token fails as `line` says: nothing good is called bad, no wrong
// key comes out, and what was made can be used, or fails for what the token does now.
inline void use_while_it_fails(keyring::KeyVault& vault, const Used& used,
                               const std::string& line) {
  const auto plain = std::move(vault.unwrap(used.record, used.presented, soon()).at(0));
  if (plain) {
    EXPECT_TRUE(equal_constant_time(plain->reveal(), used.keys.front().key.reveal())) << line;
  } else {
    expect_no_blame(plain.error(), line);
  }
  const auto wrapped = vault.wrap(used.record, used.keys, soon()).at(0);
  if (!wrapped) {
    EXPECT_NE(wrapped.error().code(), Errc::kCorrupted) << line << wrapped.error().str();
  }
  const auto created = vault.create_cmk(used.another);
  if (created) {
    EXPECT_THAT(vault.wrap(*created, used.keys, soon()).at(0),
                testing::AnyOf(Succeeds(), testing::Not(FailsWith(Reason::kBlobInvalid))))
        << line;
  }
}

}  // namespace coffer::tests
