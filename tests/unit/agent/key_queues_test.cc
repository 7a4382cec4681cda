// SPDX-License-Identifier: Apache-2.0
// What callers ask of keys while the token hangs: it keeps nobody else waiting, and has its limit.
#include <fcntl.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/base/sealed_secret.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::JobState;

class KeyQueuesTest : public EngineFixture {
 protected:
  void SetUp() override {
    EngineFixture::SetUp();
    id = provision(plug("vda"), "data");
    finish(engine->lock({id}, {}, admin()));
    vault->hold_wraps();
  }
  void TearDown() override {
    vault->let_go();
    EngineFixture::TearDown();
  }

  // Its end is in `ended` later.
  void encrypt(UniqueFd sealed) {
    engine->encrypt(key_id(), std::move(sealed), "", admin(),
                    [this](const Result<Bytes>& done) { ended.push_back(done); });
  }
  void encrypt() { encrypt(*seal_secret(*SecretBytes::copy_of(as_bytes("text")))); }
  // As many as the threads and the queue take.
  void fill() {
    while (ended.empty()) {
      encrypt();
      ++asked;
      ASSERT_LT(asked, 1000U) << "the queue has no limit";
    }
  }

  VolumeId id{Uuid()};
  std::vector<Result<Bytes>> ended;
  std::size_t asked = 0;
};

TEST_F(KeyQueuesTest, AFullQueueRefusesAtOnceAndThatIsRecorded) {
  fill();
  EXPECT_GE(asked, 100U);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_THAT(ended.front(), FailsWith(Reason::kLimitsExceeded));
  EXPECT_TRUE(run_until([&] { return audit.count(audit::Kind::kRefused, "key.wrap") == 1U; }));
  vault->let_go();
  EXPECT_TRUE(run_until([&] { return ended.size() == asked; }));
  const auto done = std::ranges::count_if(ended, [](const auto& end) { return end.has_value(); });
  EXPECT_EQ(static_cast<std::size_t>(done), asked - 1) << "those that were taken are done";
}

TEST_F(KeyQueuesTest, RandomBytesThatAFullQueueRefusesAreRecordedToo) {
  fill();
  // The threads may have made room since.
  std::vector<Error> refused;
  for (int i = 0; i < 10 && refused.empty(); ++i) {
    engine->random_bytes(32, admin(), [&](const Result<SecretBytes>& end) {
      if (!end) refused.push_back(end.error());
    });
  }
  ASSERT_EQ(refused.size(), 1U) << "at once";
  EXPECT_EQ(refused.front().reason(), Reason::kLimitsExceeded);
  EXPECT_TRUE(run_until([&] { return audit.count(audit::Kind::kRefused, "key.random") == 1U; }));
}

TEST_F(KeyQueuesTest, AnAgentThatStopsDoesNoMoreThanWhatRuns) {
  const auto before = audit.count(audit::Kind::kResult, "key.wrap");
  fill();
  std::thread waker([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    vault->let_go();
  });
  stop();
  waker.join();
  const auto done = audit.count(audit::Kind::kResult, "key.wrap") - before;
  EXPECT_LE(done, 3U) << "of " << asked;
}

TEST_F(KeyQueuesTest, VolumesOpenAndTheTokenIsProbedMeanwhile) {
  fill();
  EXPECT_EQ(finish(engine->unlock({id}, {}, admin())).state, JobState::kDone);
  EXPECT_EQ(finish(engine->lock({id}, {}, admin())).state, JobState::kDone);
  const int probes = vault->probes();
  vault->go_away();
  EXPECT_EQ(finish(engine->unlock({id}, {}, admin())).state, JobState::kFailed);
  EXPECT_TRUE(run_until([&] { return vault->probes() > probes + 1; }));
  EXPECT_EQ(engine->providers().front().state, "down");
  vault->come_back();
  EXPECT_TRUE(run_until([&] { return engine->providers().front().state == "up"; }));
  EXPECT_EQ(engine->manager().mode, "online");
}

TEST_F(KeyQueuesTest, APlaintextIsReadWhenItsTurnComes) {
  for (int i = 0; i < 10; ++i) encrypt();
  encrypt(UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)));
  EXPECT_EQ(finish(engine->verify({id}, admin())).state, JobState::kDone);
  EXPECT_TRUE(ended.empty()) << "what it is shows later";
  vault->let_go();
  EXPECT_TRUE(run_until([&] { return ended.size() == 11U; }));
  EXPECT_EQ(std::ranges::count_if(ended, [](const auto& done) { return !done; }), 1);
  EXPECT_THAT(*std::ranges::find_if(ended, [](const auto& done) { return !done; }),
              FailsWith(Reason::kInvalidArgs));
}

}  // namespace
}  // namespace coffer::tests
