// SPDX-License-Identifier: Apache-2.0
// What is bound to keys, and what is not taken from under it: keys, and versions of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/unit/core/keyring/key_fixture.h"

namespace coffer::tests {
namespace {

using keyring::CmkRecord;
using keyring::WhenBound;

class KeyBindingsTest : public KeyFixture {
 protected:
  using KeyFixture::create;
  CmkRecord create() { return KeyFixture::create({}); }
};

TEST_F(KeyBindingsTest, ABoundKeyIsNotTakenAwayUnlessThatIsSaid) {
  const CmkRecord key = create();
  ASSERT_THAT(keyring_->bind(key.id, "volume:a", actor_), Succeeds());
  ASSERT_THAT(keyring_->bind(key.id, "volume:b", actor_), Succeeds());
  EXPECT_THAT(keyring_->disable(key.id, actor_), FailsWith(Reason::kKeyBound));
  EXPECT_THAT(keyring_->archive(key.id, actor_), FailsWith(Reason::kKeyBound));
  EXPECT_THAT(keyring_->bindings(key.id, "", 10).value(),
              testing::ElementsAre("volume:a", "volume:b"));
  EXPECT_THAT(keyring_->bindings(key.id, "volume:a", 10).value(), testing::ElementsAre("volume:b"));

  EXPECT_THAT(keyring_->disable(key.id, actor_, WhenBound::kGoOn), Succeeds());
  EXPECT_THAT(keyring_->schedule_deletion(key.id, 7, actor_), FailsWith(Reason::kKeyBound));
  ASSERT_THAT(keyring_->unbind(key.id, "volume:a", actor_), Succeeds());
  ASSERT_THAT(keyring_->unbind(key.id, "volume:b", actor_), Succeeds());
  EXPECT_THAT(keyring_->schedule_deletion(key.id, 7, actor_), Succeeds());
  for (const char* bad : {"", "two words", "\x01"}) {
    EXPECT_THAT(keyring_->bind(key.id, bad, actor_), FailsWith(Reason::kInvalidArgs));
  }
}

TEST_F(KeyBindingsTest, WhatTakesNothingFromABoundKeysUsersIsNotRefused) {
  const std::vector<CmkId> ids{create().id};
  ASSERT_THAT(keyring_->bind(ids[0], "volume:a", actor_), Succeeds());
  EXPECT_THAT(keyring_->change_many(ids, keyring::CmkChange::kRotate, actor_).at(0), Succeeds());
  keyring::CmkChange destroy = keyring::CmkChange::kDestroyVersion;
  destroy.version = 1;
  EXPECT_THAT(keyring_->change_many(ids, destroy, actor_).at(0), FailsWith(Reason::kKeyBound));
  EXPECT_THAT(keyring_->change_many(ids, keyring::CmkChange::kDisable, actor_).at(0),
              FailsWith(Reason::kKeyBound));
  ASSERT_THAT(keyring_->disable(ids[0], actor_, WhenBound::kGoOn), Succeeds());
  EXPECT_THAT(keyring_->change_many(ids, keyring::CmkChange::kEnable, actor_).at(0), Succeeds());
}

TEST_F(KeyBindingsTest, BindingsAtTheSameTimeWaitForEachOther) {
  constexpr int kThreads = 8;
  constexpr int kEach = 8;
  const CmkRecord key = create();
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kEach; ++i) {
        const std::string resource = "volume:" + std::to_string(thread) + "-" + std::to_string(i);
        EXPECT_THAT(keyring_->bind(key.id, resource, actor_), Succeeds());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(keyring_->bindings(key.id, "", 1000)->size(), std::size_t{kThreads} * kEach);
}

TEST_F(KeyBindingsTest, AVersionThatNothingNeedsIsDestroyedForGood) {
  const CmkRecord key = create();
  const auto old = keyring_->wrap(key.id, one_plain(), actor_).at(0);
  EXPECT_THAT(keyring_->destroy_version(key.id, 1, actor_), FailsWith(Reason::kInvalidArgs));
  ASSERT_THAT(keyring_->rotate(key.id, actor_), Succeeds());
  ASSERT_THAT(keyring_->bind(key.id, "volume:a", actor_), Succeeds());
  const auto destroyed = keyring_->destroy_version(key.id, 1, actor_);
  ASSERT_THAT(destroyed, Succeeds());
  EXPECT_EQ(log_.events().back().text, "alias " + key.alias + ", version 1");
  EXPECT_TRUE(destroyed->versions[0].material.empty());
  const keyring::Presented presented{*old, one_plain()[0].context};
  EXPECT_THAT(keyring_->unwrap({&presented, 1}, actor_).at(0), FailsWith(Reason::kBlobInvalid));
  EXPECT_THAT(keyring_->destroy_version(key.id, 1, actor_), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(keyring_->destroy_version(key.id, 9, actor_), FailsWith(Reason::kInvalidArgs));
}

// Of data of callers nothing tells, so that a step comes first which can be taken back.
TEST_F(KeyBindingsTest, AVersionThatCallersMayNeedGoesOnlyOfADisabledKeyOrByForce) {
  const CmkRecord key = create();
  const auto data = *wrap(key.id);
  for (int i = 0; i < 3; ++i) ASSERT_THAT(keyring_->rotate(key.id, actor_), Succeeds());
  const auto destroy = [&](std::uint32_t version, WhenBound when) {
    return keyring_->destroy_version(key.id, version, actor_, when);
  };
  for (const WhenBound when : {WhenBound::kProved, WhenBound::kRefuse}) {
    const auto refused = destroy(1, when);
    ASSERT_THAT(refused, FailsWith(Reason::kKeyNotDisabled));
    EXPECT_THAT(refused.error().message(), testing::HasSubstr("disable the key"));
  }
  ASSERT_THAT(keyring_->archive(key.id, actor_), Succeeds());
  EXPECT_THAT(destroy(1, WhenBound::kProved), FailsWith(Reason::kKeyNotDisabled)) << "it unwraps";
  ASSERT_THAT(keyring_->cancel_archive(key.id, actor_), Succeeds());
  EXPECT_THAT(unwrap(data), Succeeds());

  ASSERT_THAT(keyring_->disable(key.id, actor_), Succeeds());
  ASSERT_THAT(destroy(1, WhenBound::kProved), Succeeds());
  EXPECT_EQ(log_.events().back().text, "alias " + key.alias + ", version 1");
  ASSERT_THAT(keyring_->enable(key.id, actor_), Succeeds());
  ASSERT_THAT(destroy(2, WhenBound::kGoOn), Succeeds());
  EXPECT_EQ(log_.events().back().text, "alias " + key.alias + ", version 2, by force");
  ASSERT_THAT(keyring_->bind(key.id, "volume:a", actor_), Succeeds());
  EXPECT_THAT(destroy(3, WhenBound::kProved), Succeeds()) << "its headers were looked at";
}

// The proof that comes before is of volumes alone, and takes its time.
TEST_F(KeyBindingsTest, AVersionThatSomethingElseMayNeedStaysEvenByForce) {
  const CmkRecord key = create();
  ASSERT_THAT(keyring_->rotate(key.id, actor_), Succeeds());
  ASSERT_THAT(keyring_->bind(key.id, "volume:a", actor_), Succeeds());
  for (const std::string other : {"backup:a", "zeta:b"}) {
    ASSERT_THAT(keyring_->bind(key.id, other, actor_), Succeeds());
    for (const auto when : {WhenBound::kProved, WhenBound::kGoOn}) {
      const auto refused = keyring_->destroy_version(key.id, 1, actor_, when);
      ASSERT_THAT(refused, FailsWith(Reason::kKeyBound));
      EXPECT_THAT(refused.error().message(), testing::HasSubstr(other));
    }
    ASSERT_THAT(keyring_->unbind(key.id, other, actor_), Succeeds());
  }
  EXPECT_THAT(keyring_->destroy_version(key.id, 1, actor_), Succeeds());
}

TEST_F(KeyBindingsTest, KeysThatSomethingIsBoundToAreFoundByWhatItIs) {
  const CmkId volumes = create().id;
  const CmkId other = create().id;
  create();
  ASSERT_THAT(keyring_->bind(volumes, "volume:a", actor_), Succeeds());
  ASSERT_THAT(keyring_->bind(volumes, "volume:b", actor_), Succeeds());
  ASSERT_THAT(keyring_->bind(other, "backup:a", actor_), Succeeds());
  EXPECT_THAT(keyring_->bound_keys("volume:").value(), testing::ElementsAre(volumes));
  EXPECT_THAT(keyring_->bound_keys("volume:c").value(), testing::IsEmpty());
}

}  // namespace
}  // namespace coffer::tests
