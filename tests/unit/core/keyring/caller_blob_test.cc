// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/caller_blob.h"

#include <gtest/gtest.h>

#include "core/base/encoding.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/core/keyring/key_fixture.h"

namespace coffer::keyring {
namespace {

using tests::FailsWith;
using tests::Succeeds;

class CallerBlobTest : public tests::KeyFixture {
 protected:
  static constexpr const char* kApplication = R"({"disk":"a"})";

  CallerBlob seal(std::size_t size) {
    std::vector<KeyVault::Plain> keys(1);
    keys[0].key = *SecretBytes::random(size);
    plain = Bytes(keys[0].key.reveal().begin(), keys[0].key.reveal().end());
    const auto bytes = static_cast<std::uint32_t>(size);
    keys[0].context = CallerBlob::context_of(Purpose::kData, bytes, kApplication);
    return {Purpose::kData, bytes, *keyring_->wrap(key.id, keys, actor_).at(0)};
  }
  Result<Bytes> open(const CallerBlob& blob, const std::string& application = kApplication) {
    const Presented presented{blob.wrapped, blob.context(application)};
    auto opened = keyring_->unwrap({&presented, 1}, actor_);
    if (!opened.at(0)) return tl::unexpected(opened.at(0).error());
    return Bytes(opened[0]->reveal().begin(), opened[0]->reveal().end());
  }

  const CmkRecord key = create({});
  Bytes plain;
};

TEST_F(CallerBlobTest, WhatWasEncryptedComesBackUnderTheSameContextAlone) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{33}, CallerBlob::kPlainBytesMax}) {
    const auto read = CallerBlob::decode(seal(size).encode());
    ASSERT_THAT(read, Succeeds());
    EXPECT_EQ(read->plain_bytes, size);
    EXPECT_EQ(*open(*read), plain);
    EXPECT_THAT(open(*read, ""), FailsWith(Reason::kBlobInvalid));
    EXPECT_THAT(open(*read, R"({"disk":"b"})"), FailsWith(Reason::kBlobInvalid));
  }
}

TEST_F(CallerBlobTest, AByteThatIsChangedAnywhereIsNoticed) {
  const Bytes bytes = seal(16).encode();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    Bytes changed = bytes;
    changed[i] ^= std::byte{1};
    const auto read = CallerBlob::decode(changed);
    if (!read) {
      EXPECT_THAT(read, FailsWith(Reason::kBlobInvalid)) << "byte " << i;
      continue;
    }
    const bool names_another = read->wrapped.cmk != key.id;
    EXPECT_THAT(open(*read), FailsWith(names_another ? Reason::kNoSuchKey : Reason::kBlobInvalid))
        << "byte " << i;
  }
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(CallerBlob::decode(ByteView(bytes).first(size)), FailsWith(Reason::kBlobInvalid));
  }
}

TEST_F(CallerBlobTest, AContextThatIsAnotherAtAnyByteOpensNothing) {
  const CallerBlob blob = seal(16);
  const std::string application = kApplication;
  for (std::size_t i = 0; i < application.size(); ++i) {
    std::string changed = application;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_THAT(open(blob, changed), FailsWith(Reason::kBlobInvalid)) << "byte " << i;
    EXPECT_THAT(open(blob, application.substr(0, i)), FailsWith(Reason::kBlobInvalid)) << i;
  }
  EXPECT_THAT(open(blob, application + " "), FailsWith(Reason::kBlobInvalid));
  EXPECT_THAT(open(blob), Succeeds());
}

TEST_F(CallerBlobTest, PurposesAndLengthsOutsideTheFormatAreRefused) {
  const CallerBlob good = seal(16);
  for (const auto& [purpose, bytes] :
       std::vector<std::pair<Purpose, std::uint32_t>>{{Purpose::kVolumeKey, 64},
                                                      {Purpose::kAuditSeal, 32},
                                                      {Purpose::kData, 0},
                                                      {Purpose::kData, 4097},
                                                      {Purpose::kEnvelopeData, 15},
                                                      {Purpose::kEnvelopeData, 1025}}) {
    CallerBlob bad = good;
    bad.purpose = purpose;
    bad.plain_bytes = bytes;
    EXPECT_THAT(CallerBlob::decode(bad.encode()), FailsWith(Reason::kBlobInvalid));
  }
  Bytes longer = good.encode();
  longer.resize(CallerBlob::kEncodedBytesMax + 1);
  EXPECT_THAT(CallerBlob::decode(longer), FailsWith(Reason::kBlobInvalid));
}

TEST(CanonicalContextTest, OneContextHasOneForm) {
  EXPECT_EQ(*canonical_context({}), "");
  EXPECT_EQ(*canonical_context({{"b", "2"}, {"a", "1"}}), R"({"a":"1","b":"2"})");
  EXPECT_EQ(*canonical_context({{"q\"\\", "line\nend\x1f"}}),
            "{\"q\\\"\\\\\":\"line\\u000aend\\u001f\"}");
}

TEST(CanonicalContextTest, WhatIsNoTextOrTooLongIsRefused) {
  EXPECT_THAT(canonical_context({{"", "1"}}), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(canonical_context({{"a", "\xff"}}), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(canonical_context({{std::string("a\0b", 3), "1"}}), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(canonical_context({{"a", std::string(1024 - 8, 'x')}}), Succeeds());
  EXPECT_THAT(canonical_context({{"a", std::string(1024 - 7, 'x')}}),
              FailsWith(Reason::kLimitsExceeded));
}

}  // namespace
}  // namespace coffer::keyring
