// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/worker/worker_fixture.h"

namespace coffer::agent {
namespace {

class WorkerServiceTest : public WorkerFixture {
 protected:
  // A volume that is written, scanned again.
  Made make_volume(const std::string& disk) {
    auto made = build_on(disk);
    EXPECT_THAT(worker_->write_header(made.ticket, 0, "", soon()), Succeeds());
    made.scanned = scan_one(disk);
    EXPECT_THAT(made.scanned.header, Succeeds());
    return made;
  }
  ExpectedKey expected_for(const Made& made, Action action = Action::kVerify) {
    ExpectedKey expected;
    expected.handle = made.scanned.handle;
    expected.action = action;
    expected.mapping = "volume";
    expected.profile = made.profile;
    return expected;
  }
};

TEST_F(WorkerServiceTest, ScanTellsEachDeviceWhatItIs) {
  make_volume(device("volume"));
  const auto blank = device("blank", 1);
  const std::vector<ScanItem> items{{path("volume"), ""}, {blank, ""}, {path("absent"), ""}};
  const auto results = worker_->scan(items, soon());
  ASSERT_THAT(results, Succeeds());
  ASSERT_EQ(results->size(), 3U);
  ASSERT_THAT((*results)[0], Succeeds());
  EXPECT_THAT((*results)[0]->header, Succeeds());
  ASSERT_THAT((*results)[1], Succeeds());
  EXPECT_THAT((*results)[1]->header, FailsWith(Reason::kNotLuks2));
  EXPECT_EQ((*results)[1]->device.size_bytes, std::uint64_t{1} << 20U);
  EXPECT_THAT((*results)[2], FailsWith(Reason::kDeviceAbsent));
}

TEST_F(WorkerServiceTest, WrongKeyIsRefused) {
  const auto made = make_volume(device("disk"));
  EXPECT_THAT(verify(made.scanned, made.profile, SecretBytes::random(64).value()),
              FailsWith(Reason::kWrongKey));
  EXPECT_THAT(verify(made.scanned, made.profile, SecretBytes::random(32).value()),
              FailsWith(Reason::kWrongKey));
}

TEST_F(WorkerServiceTest, KeyThatNobodyExpectsIsDropped) {
  const auto made = make_volume(device("disk"));
  const auto ticket = keyring::draw_ticket().value();
  EXPECT_THAT(deliver(ticket, 0, made.profile, made.key), FailsWith(Reason::kTicketUnknown));
  const auto expected = expected_for(made);
  ASSERT_THAT(worker_->expect(ticket, std::span(&expected, 1), soon()), Succeeds());
  EXPECT_THAT(deliver(ticket, 1, made.profile, made.key), FailsWith(Reason::kTicketUnknown));
  EXPECT_THAT(deliver(ticket, 0, made.profile, made.key), Succeeds());
  EXPECT_THAT(deliver(ticket, 0, made.profile, made.key), FailsWith(Reason::kTicketUnknown));
}

TEST_F(WorkerServiceTest, KeyWrappedForAnotherProfileIsRefused) {
  const auto made = make_volume(device("disk"));
  const auto ticket = keyring::draw_ticket().value();
  const auto expected = expected_for(made);
  ASSERT_THAT(worker_->expect(ticket, std::span(&expected, 1), soon()), Succeeds());
  auto other = made.profile;
  other.sector_bytes = 512;
  EXPECT_THAT(deliver(ticket, 0, other, made.key), FailsWith(Reason::kProfileMismatch));
  std::vector<Reason> ends;
  ASSERT_THAT(
      worker_->wait_results(
          ticket, [&](const KeyOutcome& o) { ends.push_back(o.result.error().reason()); }, soon()),
      Succeeds());
  EXPECT_THAT(ends, ::testing::ElementsAre(Reason::kProfileMismatch));
}

TEST_F(WorkerServiceTest, AKeyThatComesInSharesOpensItsVolume) {
  const auto made = make_volume(device("disk"));
  const auto digest = luks2::profile_digest(made.profile);
  const auto split = keyring::split_key(made.key, digest, 2, 3).value();
  const auto ticket = keyring::draw_ticket().value();
  auto expected = expected_for(made);
  expected.action = Action::kVerify;
  ASSERT_THAT(worker_->expect(ticket, std::span(&expected, 1), soon()), Succeeds());
  const auto deliver_share = [&](std::uint8_t index) {
    auto share = split.set;
    share.index = index;
    return deliver(ticket, 0, made.profile, split.shares[index - 1U], share);
  };
  EXPECT_THAT(deliver_share(3), Succeeds());
  EXPECT_THAT(deliver_share(3), FailsWith(Reason::kTicketUnknown)) << "each comes once";
  EXPECT_THAT(deliver_share(1), Succeeds());
  EXPECT_THAT(deliver_share(2), FailsWith(Reason::kTicketUnknown)) << "none is expected any more";
  std::vector<bool> ends;
  ASSERT_THAT(
      worker_->wait_results(
          ticket, [&](const KeyOutcome& o) { ends.push_back(o.result.has_value()); }, soon()),
      Succeeds());
  EXPECT_THAT(ends, ::testing::ElementsAre(true));
}

TEST_F(WorkerServiceTest, HeaderThatDiffersFromItsProfileIsRefusedByField) {
  const auto made = make_volume(device("disk"));
  auto expected = expected_for(made);
  expected.profile.data_offset_bytes += 1U << 20U;
  const auto refused =
      worker_->expect(keyring::draw_ticket().value(), std::span(&expected, 1), soon());
  ASSERT_THAT(refused, FailsWith(Reason::kProfileMismatch));
  EXPECT_THAT(refused.error().message(), ::testing::HasSubstr("segments.0.offset"));
}

TEST_F(WorkerServiceTest, HeaderSwappedAfterTheCheckIsNotUsed) {
  const auto disk = device("disk");
  const auto made = make_volume(disk);
  // From now on the device says something else; the key is checked against what was scanned.
  write_at(disk, 0, std::string(128 << 10, '\0'));
  EXPECT_THAT(verify(made.scanned, made.profile, made.key), Succeeds());
  EXPECT_THAT(scan_one(disk).header, FailsWith(Reason::kNotLuks2));
}

TEST_F(WorkerServiceTest, DamagedFirstCopyStillServes) {
  const auto disk = device("disk");
  const auto made = make_volume(disk);
  write_at(disk, 0, std::string(4096, '\0'));
  const auto again = scan_one(disk);
  ASSERT_THAT(again.header, Succeeds());
  EXPECT_EQ(again.header->copies, luks2::Copies::kPrimaryBad);
  EXPECT_THAT(verify(again, made.profile, made.key), Succeeds());
}

TEST_F(WorkerServiceTest, ReleasedHandleMustBeScannedAgain) {
  const auto made = make_volume(device("disk"));
  worker_->release(std::span(&made.scanned.handle, 1));
  const auto expected = expected_for(made);
  EXPECT_THAT(worker_->expect(keyring::draw_ticket().value(), std::span(&expected, 1), soon()),
              FailsWith(Reason::kDeviceChanged));
}

TEST_F(WorkerServiceTest, HandlesAndTicketsEndWithTheirConnection) {
  const auto made = make_volume(device("disk"));
  const auto ticket = keyring::draw_ticket().value();
  const auto expected = expected_for(made);
  ASSERT_THAT(worker_->expect(ticket, std::span(&expected, 1), soon()), Succeeds());
  auto other = make_worker_client(socket("worker.sock"));
  EXPECT_THAT(other->wait_results(
                  ticket, [](const KeyOutcome&) {}, soon()),
              FailsWith(Reason::kTicketUnknown));
  worker_.reset();
  worker_ = make_worker_client(socket("worker.sock"));
  EXPECT_THAT(worker_->expect(keyring::draw_ticket().value(), std::span(&expected, 1), soon()),
              FailsWith(Reason::kDeviceChanged));
}

TEST_F(WorkerServiceTest, CancelledTicketTellsEachKey) {
  const auto made = make_volume(device("disk"));
  const auto ticket = keyring::draw_ticket().value();
  const auto expected = expected_for(made);
  ASSERT_THAT(worker_->expect(ticket, std::span(&expected, 1), soon()), Succeeds());
  worker_->cancel(ticket);
  std::vector<Reason> ends;
  ASSERT_THAT(
      worker_->wait_results(
          ticket, [&](const KeyOutcome& o) { ends.push_back(o.result.error().reason()); }, soon()),
      Succeeds());
  EXPECT_THAT(ends, ::testing::ElementsAre(Reason::kCancelled));
  EXPECT_THAT(deliver(ticket, 0, made.profile, made.key), FailsWith(Reason::kTicketUnknown));
}

TEST_F(WorkerServiceTest, KeyThatDoesNotComeInTimeIsGivenUp) {
  const auto made = make_volume(device("disk"));
  const auto ticket = keyring::draw_ticket().value();
  const auto expected = expected_for(made);
  const auto now = Deadline::after(std::chrono::milliseconds(1));
  ASSERT_THAT(worker_->expect(ticket, std::span(&expected, 1), now), Succeeds());
  std::vector<Reason> ends;
  ASSERT_THAT(
      worker_->wait_results(
          ticket, [&](const KeyOutcome& o) { ends.push_back(o.result.error().reason()); }, soon()),
      Succeeds());
  EXPECT_THAT(ends, ::testing::ElementsAre(Reason::kTimedOut));
}

TEST_F(WorkerServiceTest, ManyKeysOfOneTicketEndEach) {
  std::vector<Made> volumes;
  std::vector<ExpectedKey> expected;
  for (std::uint32_t i = 0; i < 6; ++i) {
    volumes.push_back(make_volume(device("disk" + std::to_string(i))));
    expected.push_back(expected_for(volumes.back()));
    expected.back().index = i;
  }
  const auto ticket = keyring::draw_ticket().value();
  ASSERT_THAT(worker_->expect(ticket, expected, soon()), Succeeds());
  for (std::uint32_t i = 0; i < 6; ++i)
    EXPECT_THAT(deliver(ticket, i, volumes[i].profile, volumes[i].key), Succeeds());
  std::set<std::uint32_t> ended;
  ASSERT_THAT(worker_->wait_results(
                  ticket,
                  [&](const KeyOutcome& outcome) {
                    EXPECT_THAT(outcome.result, Succeeds());
                    ended.insert(outcome.index);
                  },
                  soon()),
              Succeeds());
  EXPECT_EQ(ended.size(), 6U);
}

TEST_F(WorkerServiceTest, ActivationSaysWhereThereIsNoDeviceMapper) {
  if (DmControl::open()) GTEST_SKIP() << "this kernel has device-mapper";
  const auto made = make_volume(device("disk"));
  const auto outcome =
      use_key(keyring::draw_ticket().value(), expected_for(made, Action::kActivate), made.key);
  EXPECT_THAT(outcome, FailsWith(Reason::kUnsupported));
  EXPECT_TRUE(worker_->list_mappings(soon())->empty());
}

TEST_F(WorkerServiceTest, MarkWithoutAMappingGoesAtStart) {
  const auto stale = path("CRYPT-LUKS2-0123456789abcdef0123456789abcdef-gone");
  const auto other = path("something-else");
  std::ofstream(stale).flush();
  std::ofstream(other).flush();
  EXPECT_THAT(service_->clean_up(), Succeeds());
  EXPECT_FALSE(std::filesystem::exists(stale));
  EXPECT_TRUE(std::filesystem::exists(other));
}

TEST_F(WorkerServiceTest, WorkerThatIsNotThereIsLost) {
  service_.reset();
  EXPECT_THAT(worker_->list_mappings(Deadline::after(std::chrono::seconds(5))),
              FailsWith(Reason::kWorkerLost));
}

}  // namespace
}  // namespace coffer::agent
