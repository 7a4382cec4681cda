// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/ticket_table.h"

#include <gtest/gtest.h>

#include <functional>
#include <utility>

#include "tests/support/result_matchers.h"

namespace coffer::agent {
namespace {

using tests::FailsWith;
using tests::Succeeds;

class TurnedClock final : public Clock {
 public:
  WallTime wall() const override { return {}; }
  SteadyTime steady() const override { return now; }
  std::chrono::microseconds since_boot() const override { return {}; }
  SteadyTime now{std::chrono::hours(1)};
};

class TicketTableTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kConnection = 7;

  TicketTableTest() { profile_.uuid = Uuid::random().value(); }

  KeyJob job(std::uint32_t index) {
    KeyJob job;
    job.ticket = ticket_;
    job.spec.index = index;
    job.spec.profile = profile_;
    return job;
  }
  Result<void> add(const std::vector<std::uint32_t>& indexes) {
    std::vector<KeyJob> jobs;
    jobs.reserve(indexes.size());
    for (const auto index : indexes) jobs.push_back(job(index));
    return table_.add(ticket_, kConnection, in(10), std::move(jobs));
  }
  Deadline in(int seconds) const { return Deadline(clock_.now + std::chrono::seconds(seconds)); }
  Result<WaitReply> look(std::size_t seen = 0) {
    return table_.wait(ticket_, kConnection, seen, Deadline(SteadyTime{}));
  }
  keyring::Digest digest() const { return luks2::profile_digest(profile_); }

  TurnedClock clock_;
  TicketTable table_{clock_};
  keyring::Ticket ticket_ = keyring::draw_ticket().value();
  luks2::Profile profile_;
};

TEST_F(TicketTableTest, EachKeyIsTakenOnce) {
  ASSERT_THAT(add({0, 5}), Succeeds());
  EXPECT_THAT(table_.take(ticket_, 5, digest()), Succeeds());
  EXPECT_THAT(table_.take(ticket_, 5, digest()), FailsWith(Reason::kTicketUnknown));
  EXPECT_THAT(table_.take(ticket_, 1, digest()), FailsWith(Reason::kTicketUnknown));
  EXPECT_THAT(table_.take(keyring::Ticket{}, 0, digest()), FailsWith(Reason::kTicketUnknown));
}

TEST_F(TicketTableTest, IndexesAndTicketsAreUnique) {
  EXPECT_THAT(add({1, 1}), FailsWith(Reason::kInvalidArgs));
  ASSERT_THAT(add({1}), Succeeds());
  EXPECT_THAT(add({2}), FailsWith(Reason::kInvalidArgs));
}

TEST_F(TicketTableTest, KeyOfAnotherProfileEndsItsPlace) {
  ASSERT_THAT(add({0}), Succeeds());
  EXPECT_THAT(table_.take(ticket_, 0, keyring::Digest{}), FailsWith(Reason::kProfileMismatch));
  EXPECT_THAT(table_.take(ticket_, 0, digest()), FailsWith(Reason::kTicketUnknown));
  const auto news = look();
  ASSERT_THAT(news, Succeeds());
  EXPECT_TRUE(news->finished);
  EXPECT_THAT(news->outcomes.at(0).result, FailsWith(Reason::kProfileMismatch));
}

TEST_F(TicketTableTest, OutcomesComeInTheOrderTheyEnd) {
  ASSERT_THAT(add({0, 1}), Succeeds());
  ASSERT_THAT(table_.take(ticket_, 1, digest()), Succeeds());
  table_.end(ticket_, 1, Activated{});
  auto news = look();
  ASSERT_EQ(news->outcomes.size(), 1U);
  EXPECT_EQ(news->outcomes[0].index, 1U);
  EXPECT_FALSE(news->finished);
  ASSERT_THAT(table_.take(ticket_, 0, digest()), Succeeds());
  table_.end(ticket_, 0, fail(Reason::kWrongKey, "no"));
  news = look(1);
  ASSERT_EQ(news->outcomes.size(), 1U);
  EXPECT_THAT(news->outcomes[0].result, FailsWith(Reason::kWrongKey));
  EXPECT_TRUE(news->finished);
}

TEST_F(TicketTableTest, AfterTheDeadlineNoKeyIsTaken) {
  ASSERT_THAT(add({0, 1}), Succeeds());
  ASSERT_THAT(table_.take(ticket_, 0, digest()), Succeeds());
  clock_.now += std::chrono::seconds(11);
  EXPECT_THAT(table_.take(ticket_, 1, digest()), FailsWith(Reason::kTicketUnknown));
  table_.expire();
  const auto news = look();
  ASSERT_EQ(news->outcomes.size(), 1U);
  EXPECT_THAT(news->outcomes[0].result, FailsWith(Reason::kTimedOut));
  EXPECT_FALSE(news->finished) << "what has begun finishes";
  table_.end(ticket_, 0, Activated{});
  EXPECT_TRUE(look(1)->finished);
  clock_.now += std::chrono::minutes(1);
  table_.expire();
  EXPECT_THAT(look(), FailsWith(Reason::kTicketUnknown));
}

TEST_F(TicketTableTest, KeptKeyIsForItsConnectionAloneAndGoesWithTheDeadline) {
  ASSERT_THAT(add({0}), Succeeds());
  ASSERT_THAT(table_.take(ticket_, 0, digest()), Succeeds());
  table_.keep(ticket_, 0, SecretBytes::random(64).value());
  EXPECT_THAT(table_.kept(ticket_, 0, kConnection), Succeeds());
  EXPECT_THAT(table_.kept(ticket_, 0, kConnection + 1), FailsWith(Reason::kTicketUnknown));
  EXPECT_TRUE(look()->finished);
  clock_.now += std::chrono::seconds(11);
  table_.expire();
  EXPECT_THAT(table_.kept(ticket_, 0, kConnection), FailsWith(Reason::kTicketUnknown));
}

// A ticket stays for a while after its end; the devices of its keys need not.
TEST_F(TicketTableTest, DevicesAreLetGoWhenTheirKeysHaveEnded) {
  const auto expects = [&](int index, const std::function<void()>& end) {
    auto device = std::make_shared<const HeldDevice>();
    const std::weak_ptr<const HeldDevice> seen = device;
    KeyJob with_device = job(0);
    with_device.device = std::move(device);
    ticket_ = keyring::draw_ticket().value();
    with_device.ticket = ticket_;
    std::vector<KeyJob> jobs;
    jobs.push_back(std::move(with_device));
    ASSERT_THAT(table_.add(ticket_, kConnection, in(10), std::move(jobs)), Succeeds());
    static_cast<void>(table_.take(ticket_, 0, digest()));
    EXPECT_FALSE(seen.expired()) << index;
    end();
    EXPECT_TRUE(seen.expired()) << index;
  };
  expects(1, [&] { table_.end(ticket_, 0, Activated{}); });
  expects(2, [&] {
    table_.keep(ticket_, 0, SecretBytes::random(64).value());
    EXPECT_TRUE(table_.kept(ticket_, 0, kConnection)->job.device);
    table_.forget_key(ticket_, 0);
  });
  expects(3, [&] {
    table_.keep(ticket_, 0, SecretBytes::random(64).value());
    table_.cancel(ticket_, kConnection);
  });
  expects(4, [&] {
    table_.keep(ticket_, 0, SecretBytes::random(64).value());
    clock_.now += std::chrono::seconds(11);
    table_.expire();
  });
}

TEST_F(TicketTableTest, KeyGivenUpWhileItCameIsNotKept) {
  ASSERT_THAT(add({0}), Succeeds());
  ASSERT_THAT(table_.take(ticket_, 0, digest()), Succeeds());
  table_.cancel(ticket_, kConnection);
  table_.keep(ticket_, 0, SecretBytes::random(64).value());
  EXPECT_THAT(table_.kept(ticket_, 0, kConnection), FailsWith(Reason::kTicketUnknown));
  EXPECT_THAT(look()->outcomes.at(0).result, FailsWith(Reason::kCancelled));
}

TEST_F(TicketTableTest, KeyThatCameUpToTheDeadlineIsNotKeptBeyondIt) {
  ASSERT_THAT(add({0}), Succeeds());
  ASSERT_THAT(table_.take(ticket_, 0, digest()), Succeeds());
  clock_.now += std::chrono::seconds(11);
  table_.keep(ticket_, 0, SecretBytes::random(64).value());
  EXPECT_THAT(table_.kept(ticket_, 0, kConnection), FailsWith(Reason::kTicketUnknown));
  EXPECT_THAT(look()->outcomes.at(0).result, FailsWith(Reason::kTimedOut));
}

TEST_F(TicketTableTest, WorkerThatStopsKeepsNoKey) {
  ASSERT_THAT(add({0}), Succeeds());
  ASSERT_THAT(table_.take(ticket_, 0, digest()), Succeeds());
  table_.stop();
  table_.keep(ticket_, 0, SecretBytes::random(64).value());
  EXPECT_THAT(table_.kept(ticket_, 0, kConnection), FailsWith(Reason::kTicketUnknown));
  EXPECT_THAT(look()->outcomes.at(0).result, FailsWith(Reason::kCancelled));
}

TEST_F(TicketTableTest, LostConnectionTakesItsTicketsAlong) {
  ASSERT_THAT(add({0, 1}), Succeeds());
  ASSERT_THAT(table_.take(ticket_, 0, digest()), Succeeds());
  EXPECT_TRUE(table_.wanted(ticket_, 0));
  table_.drop_connection(kConnection);
  EXPECT_FALSE(table_.wanted(ticket_, 0));
  EXPECT_THAT(table_.take(ticket_, 1, digest()), FailsWith(Reason::kTicketUnknown));
  table_.end(ticket_, 0, Activated{});  // Nobody is told, and nothing breaks.
}

class TicketSharesTest : public TicketTableTest {
 protected:
  // Delivers the share at `place`.
  Result<std::optional<SecretBytes>> collect(std::size_t place) {
    keyring::KeyShares share = split_.set;
    share.index = static_cast<std::uint8_t>(place + 1);
    return table_.collect(ticket_, 0, {digest(), share},
                          SecretBytes::copy_of(split_.shares[place].reveal()).value());
  }

  SecretBytes key_ = SecretBytes::random(64).value();
  keyring::SplitKey split_ = keyring::split_key(key_, digest(), 2, 3).value();
};

TEST_F(TicketSharesTest, TheKeyIsThereWithTheLastShareAndIsTakenThen) {
  ASSERT_THAT(add({0}), Succeeds());
  const auto first = collect(2);
  ASSERT_THAT(first, Succeeds());
  EXPECT_FALSE(*first);
  EXPECT_TRUE(look()->outcomes.empty());
  EXPECT_THAT(collect(2), FailsWith(Reason::kTicketUnknown)) << "each comes once";
  const auto key = collect(0);
  ASSERT_THAT(key, Succeeds());
  ASSERT_TRUE(*key);
  EXPECT_TRUE(equal_constant_time((*key)->reveal(), key_.reveal()));
  ASSERT_THAT(table_.take(ticket_, 0, digest()), Succeeds());
  EXPECT_THAT(collect(1), FailsWith(Reason::kTicketUnknown)) << "it is more than is needed";
}

TEST_F(TicketSharesTest, SharesThatMakeNoKeyEndIt) {
  ASSERT_THAT(add({0}), Succeeds());
  ASSERT_THAT(collect(0), Succeeds());
  split_.shares[1].reveal_mutable()[5] ^= std::byte{1};
  EXPECT_THAT(collect(1), FailsWith(Reason::kWrongKey));
  EXPECT_THAT(look()->outcomes.at(0).result, FailsWith(Reason::kWrongKey));
  EXPECT_THAT(collect(2), FailsWith(Reason::kTicketUnknown));
}

TEST_F(TicketSharesTest, SharesGoWithTheirTicket) {
  ASSERT_THAT(add({0}), Succeeds());
  ASSERT_THAT(collect(0), Succeeds());
  table_.cancel(ticket_, kConnection);
  EXPECT_THAT(collect(1), FailsWith(Reason::kTicketUnknown));
  EXPECT_THAT(look()->outcomes.at(0).result, FailsWith(Reason::kCancelled));

  ticket_ = keyring::draw_ticket().value();
  ASSERT_THAT(add({0}), Succeeds());
  ASSERT_THAT(collect(0), Succeeds());
  clock_.now += std::chrono::seconds(11);
  EXPECT_THAT(collect(1), FailsWith(Reason::kTicketUnknown));
  EXPECT_THAT(look()->outcomes.at(0).result, FailsWith(Reason::kTimedOut));
}

TEST_F(TicketSharesTest, SharesOfAnotherVolumeEndItsPlaceAndOfAnotherKeyDoNot) {
  ASSERT_THAT(add({0}), Succeeds());
  ASSERT_THAT(collect(0), Succeeds());
  auto other = keyring::split_key(SecretBytes::random(64).value(), digest(), 2, 3).value();
  const auto own = std::exchange(split_, std::move(other));
  EXPECT_THAT(collect(1), FailsWith(Reason::kBlobInvalid));
  keyring::KeyShares share = own.set;
  share.index = 2;
  EXPECT_THAT(table_.collect(ticket_, 0, {keyring::Digest{}, share},
                             SecretBytes::copy_of(own.shares[1].reveal()).value()),
              FailsWith(Reason::kProfileMismatch));
  EXPECT_THAT(look()->outcomes.at(0).result, FailsWith(Reason::kProfileMismatch));
}

TEST_F(TicketTableTest, TooManyTicketsAreRefused) {
  for (std::size_t i = 0; i < TicketTable::kTicketsMax; ++i) {
    ticket_ = keyring::draw_ticket().value();
    ASSERT_THAT(add({0}), Succeeds());
  }
  ticket_ = keyring::draw_ticket().value();
  EXPECT_THAT(add({0}), FailsWith(Reason::kLimitsExceeded));
}

}  // namespace
}  // namespace coffer::agent
