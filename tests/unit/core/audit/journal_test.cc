// SPDX-License-Identifier: Apache-2.0
#include "core/audit/journal.h"

#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/support/temp_dir.h"
#include "tests/unit/core/audit/journal_fixture.h"

namespace coffer::tests {
namespace {

using audit::Event;
using audit::Journal;
using audit::Kind;
using audit::Record;

class JournalTest : public testing::Test {
 protected:
  FakeDisk disk;
};

TEST_F(JournalTest, RecordsStartEventsAndStopInOneChain) {
  auto journal = must_open(disk);
  EXPECT_EQ(*journal->append_one(intent()), 2U);
  const std::vector<Event> two{intent("key.rotate"), intent("key.disable")};
  EXPECT_EQ(*journal->append(two), (std::vector<std::uint64_t>{3, 4}));
  const auto records = all_records(*journal);
  ASSERT_EQ(records.size(), 4U);
  EXPECT_EQ(records[0].event.kind, Kind::kStart);
  EXPECT_EQ(records[1].event, intent());
  for (std::size_t i = 1; i < records.size(); ++i) {
    EXPECT_EQ(records[i].previous, records[i - 1].hash);
    EXPECT_EQ(records[i].sequence, i + 1);
  }
  EXPECT_EQ(journal->head().hash, records.back().hash);
  journal.reset();

  const auto report = audit::verify_files(*disk.open());
  ASSERT_THAT(report, Succeeds());
  EXPECT_TRUE(report->intact) << report->problem;
  EXPECT_TRUE(report->stopped);
  EXPECT_EQ(report->records, 5U);
}

TEST_F(JournalTest, ChainGoesOnAcrossStarts) {
  for (int i = 0; i < 5; ++i) {
    auto journal = must_open(disk);
    ASSERT_THAT(journal->append_one(intent()), Succeeds());
  }
  auto journal = must_open(disk);
  const auto report = journal->verify(0, 0);
  ASSERT_THAT(report, Succeeds());
  EXPECT_TRUE(report->intact) << report->problem;
  EXPECT_EQ(report->records, 16U);
  EXPECT_EQ(disk.files().size(), 6U);
}

TEST_F(JournalTest, FullSegmentIsTrimmedAndFollowedByAnother) {
  auto journal = must_open(disk);
  Event event = intent();
  event.text = std::string(500, 't');
  for (int i = 0; i < 300; ++i) ASSERT_THAT(journal->append_one(event), Succeeds());
  EXPECT_GE(disk.files().size(), 3U);
  EXPECT_EQ(all_records(*journal).size(), 301U);
  const auto report = journal->verify(0, 0);
  ASSERT_THAT(report, Succeeds());
  EXPECT_TRUE(report->intact) << report->problem;
  for (const auto& part : {std::pair(1U, 1U), std::pair(100U, 220U), std::pair(301U, 301U)}) {
    const auto some = journal->verify(part.first, part.second);
    ASSERT_THAT(some, Succeeds());
    EXPECT_TRUE(some->intact) << some->problem;
    EXPECT_EQ(some->first_sequence, part.first);
    EXPECT_EQ(some->records, part.second - part.first + 1);
  }
}

TEST_F(JournalTest, CallLargerThanASegmentGetsOneOfItsOwn) {
  auto options = small_journal();
  options.deadline = std::chrono::minutes(1);  // A sanitizer takes its time over so many.
  auto journal = must_open(disk, options);
  Event event = intent();
  event.text = std::string(500, 't');
  const std::vector<Event> many(audit::AuditLog::kEventsMax, event);
  const auto sequences = journal->append(many);
  ASSERT_THAT(sequences, Succeeds());
  EXPECT_EQ(sequences->back() - sequences->front() + 1, many.size());
  EXPECT_TRUE(journal->verify(0, 0)->intact);
}

TEST_F(JournalTest, RefusesNoneAndTooManyEvents) {
  auto journal = must_open(disk);
  EXPECT_THAT(journal->append({}), FailsWith(Reason::kInvalidArgs));
  const std::vector<Event> many(audit::AuditLog::kEventsMax + 1, intent());
  EXPECT_THAT(journal->append(many), FailsWith(Reason::kInvalidArgs));
}

TEST_F(JournalTest, CallersThatWaitForACommitShareTheNext) {
  constexpr int kWaiting = 15;
  constexpr int kTooMany = 5;
  auto options = small_journal();
  options.waiting_max = kWaiting;
  options.deadline = std::chrono::minutes(1);
  auto journal = must_open(disk, options);
  const int commits_before = disk.commits();
  disk.stall();
  std::atomic<int> recorded = 0;
  std::atomic<int> refused = 0;
  const auto record = [&] {
    auto& count = journal->append_one(intent()) ? recorded : refused;
    ++count;
    count.notify_all();
  };
  std::vector<std::thread> callers;
  callers.emplace_back(record);
  disk.wait_stalled();
  for (int i = 0; i < kWaiting + kTooMany; ++i) callers.emplace_back(record);
  // Those that are refused tell that all the others wait.
  for (int seen = refused; seen < kTooMany; seen = refused) refused.wait(seen);

  disk.resume();
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(recorded, 1 + kWaiting);
  EXPECT_EQ(disk.commits() - commits_before, 2) << "one for the first caller, one for all others";
  EXPECT_EQ(all_records(*journal).back().sequence, 2U + kWaiting);
}

TEST_F(JournalTest, QueryPagesFiltersAndEnds) {
  auto journal = must_open(disk);
  for (int i = 0; i < 25; ++i) {
    ASSERT_THAT(journal->append_one(intent(i % 2 == 0 ? "volume.lock" : "key.show")), Succeeds());
  }
  audit::Filter filter;
  filter.operation = "volume.*";
  const auto page = journal->query(filter, 5);
  ASSERT_THAT(page, Succeeds());
  EXPECT_EQ(page->records.size(), 5U);
  EXPECT_EQ(page->next_sequence, page->records.back().sequence + 1);
  filter.from_sequence = page->next_sequence;
  const auto rest = journal->query(filter, 100);
  ASSERT_THAT(rest, Succeeds());
  EXPECT_EQ(rest->records.size(), 8U);
  EXPECT_EQ(rest->next_sequence, 0U);
  filter.from_sequence = 1000;
  EXPECT_TRUE(journal->query(filter, 5)->records.empty());
}

TEST_F(JournalTest, VerifyRefusesARangeThatIsNotThere) {
  auto journal = must_open(disk);
  EXPECT_THAT(journal->verify(2, 1), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(journal->verify(0, 99), FailsWith(Reason::kInvalidArgs));
}

TEST_F(JournalTest, FailedSyncSealsTheSegmentAndTheEventGoesToANewOne) {
  auto journal = must_open(disk);
  ASSERT_THAT(journal->append_one(intent()), Succeeds());
  disk.fail_commits(1);
  disk.tear_at(30);
  EXPECT_EQ(*journal->append_one(intent()), 3U);
  EXPECT_TRUE(journal->available());
  EXPECT_EQ(disk.files().size(), 2U);
  EXPECT_TRUE(journal->verify(0, 0)->intact) << journal->verify(0, 0)->problem;
  EXPECT_EQ(all_records(*journal).size(), 3U);
  journal.reset();
  must_open(disk).reset();
  const auto report = audit::verify_files(*disk.open());
  ASSERT_THAT(report, Succeeds());
  EXPECT_TRUE(report->intact) << report->problem;
}

TEST_F(JournalTest, FailedSyncThatWroteEverythingCountsOnceOnly) {
  auto journal = must_open(disk);
  disk.fail_commits(1);
  disk.tear_at(100000);
  EXPECT_EQ(*journal->append_one(intent()), 2U);
  EXPECT_EQ(*journal->append_one(intent("key.show")), 3U);
  EXPECT_EQ(all_records(*journal).size(), 3U);
  EXPECT_TRUE(journal->verify(0, 0)->intact) << journal->verify(0, 0)->problem;
}

TEST_F(JournalTest, FullDiskRefusesAndLaterGoesOn) {
  auto journal = must_open(disk);
  disk.fail_commits(1);
  disk.fail_creates(1);
  EXPECT_THAT(journal->append_one(intent()), FailsWith(Reason::kAuditUnavailable));
  EXPECT_FALSE(journal->available());
  EXPECT_EQ(journal->head().sequence, 1U);
  EXPECT_EQ(*journal->append_one(intent()), 2U);
  EXPECT_TRUE(journal->available());
  EXPECT_TRUE(journal->verify(0, 0)->intact);
}

TEST_F(JournalTest, LeftoversOfFailedSegmentsDoNotCount) {
  disk.keep_removed();
  auto journal = must_open(disk);
  disk.fail_commits(3);
  disk.tear_at(200);
  EXPECT_THAT(journal->append_one(intent()), FailsWith(Reason::kAuditUnavailable));
  EXPECT_THAT(journal->append_one(intent()), FailsWith(Reason::kAuditUnavailable));
  EXPECT_EQ(*journal->append_one(intent()), 2U);
  EXPECT_EQ(disk.files().size(), 4U);
  EXPECT_TRUE(journal->verify(0, 0)->intact) << journal->verify(0, 0)->problem;
  journal.reset();
  journal = must_open(disk);
  EXPECT_TRUE(journal->verify(0, 0)->intact) << journal->verify(0, 0)->problem;
  EXPECT_EQ(all_records(*journal).size(), 4U);
}

TEST_F(JournalTest, StalledDiskRefusesWithinTheDeadline) {
  auto options = small_journal();
  options.deadline = std::chrono::milliseconds(20);
  auto journal = must_open(disk, options);
  disk.stall();
  EXPECT_THAT(journal->append_one(intent()), FailsWith(Reason::kAuditUnavailable));
  EXPECT_THAT(journal->append_one(intent()), FailsWith(Reason::kAuditUnavailable));
  EXPECT_FALSE(journal->available());
  disk.resume();
  journal->stop();
  // The first was under way and is found, with its end; the second was taken back.
  const auto records = all_records(*journal);
  ASSERT_EQ(records.size(), 4U);
  EXPECT_EQ(records[1].event.kind, Kind::kIntent);
  EXPECT_EQ(records[2].event.kind, Kind::kResult);
  EXPECT_EQ(records[2].event.intent_sequence, records[1].sequence);
  EXPECT_EQ(records[2].event.operation, records[1].event.operation);
  EXPECT_EQ(records[2].event.outcome, "Cancelled");
  EXPECT_THAT(journal->append_one(intent()), FailsWith(Reason::kAuditUnavailable));
}

TEST_F(JournalTest, WhatIsKeptIsRecordedOnceHoweverLate) {
  auto options = small_journal();
  options.deadline = std::chrono::milliseconds(100);
  auto journal = must_open(disk, options);
  auto result = intent("volume.unlock");
  result.kind = Kind::kResult;
  result.outcome = "OK";
  disk.stall();
  // The first one's write begins, the second one's never does.
  EXPECT_THAT(journal->append_one_kept(result), FailsWith(Reason::kAuditUnavailable));
  result.operation = "volume.lock";
  EXPECT_THAT(journal->append_one_kept(result), FailsWith(Reason::kAuditUnavailable));
  disk.resume();
  journal->stop();
  const auto records = all_records(*journal);
  ASSERT_EQ(records.size(), 4U);
  EXPECT_EQ(records[1].event.operation, "volume.unlock");
  EXPECT_EQ(records[2].event, result);
}

TEST_F(JournalTest, WhatIsKeptIsRecordedOnceAfterADiskThatFailed) {
  auto journal = must_open(disk);
  disk.fail_commits(1);
  disk.fail_creates(1);
  EXPECT_THAT(journal->append_one_kept(intent("volume.lock")),
              FailsWith(Reason::kAuditUnavailable));
  journal->stop();
  const auto records = all_records(*journal);
  EXPECT_EQ(
      std::ranges::count(records, "volume.lock", [](const Record& r) { return r.event.operation; }),
      1);
}

TEST_F(JournalTest, DeferredEventsAreRecordedFirstOnceThatIsPossible) {
  auto journal = must_open(disk);
  disk.fail_commits(1);
  disk.fail_creates(1);
  EXPECT_THAT(journal->append_one(intent()), FailsWith(Reason::kAuditUnavailable));
  disk.fail_creates(1);
  journal->append_deferred(intent("volume.lock"));
  journal->append_deferred(intent("volume.wipe"));
  ASSERT_THAT(journal->append_one(intent()),
              testing::AnyOf(Succeeds(), FailsWith(Reason::kAuditUnavailable)));
  journal->stop();
  const auto records = all_records(*journal);
  std::vector<std::string> operations;
  operations.reserve(records.size());
  for (const Record& record : records) operations.push_back(record.event.operation);
  EXPECT_THAT(operations,
              testing::IsSupersetOf({"audit.start", "volume.lock", "volume.wipe", "audit.stop"}));
  EXPECT_EQ(operations.back(), "audit.stop");
}

TEST_F(JournalTest, StartThatCannotBeRecordedIsNoStart) {
  disk.fail_creates(1);
  EXPECT_THAT(Journal::open(disk.open(), small_journal()), FailsWith(Reason::kAuditUnavailable));
}

TEST_F(JournalTest, JournalOfAnotherNodeIsLeftAlone) {
  must_open(disk).reset();
  const auto before = disk.files();
  auto options = small_journal();
  options.node = *HostId::random();
  EXPECT_THAT(Journal::open(disk.open(), options), FailsWith(Reason::kAuditBroken));
  EXPECT_EQ(disk.files(), before);
}

// A crash in the last commit, at every byte of it.
TEST_F(JournalTest, TornTailAtEveryByteIsCutAndTheCutRecorded) {
  std::size_t block_bytes = 0;
  {
    auto journal = must_open(disk);
    ASSERT_THAT(journal->append_one(intent()), Succeeds());
  }
  const auto whole = disk.files();
  ASSERT_EQ(whole.size(), 1U);
  const auto& [name, content] = *whole.begin();
  // The blocks are start, intent, stop: the last one is torn.
  audit::BlockReader reader(content);
  reader.next();
  reader.next();
  const std::size_t last_at = reader.offset_bytes();
  block_bytes = content.size() - last_at;
  for (std::size_t kept = 0; kept < block_bytes; ++kept) {
    Bytes torn = content;
    std::fill(torn.begin() + static_cast<std::ptrdiff_t>(last_at + kept), torn.end(), std::byte{0});
    torn.resize(65536);
    disk.put({{name, torn}});
    auto journal = must_open(disk);
    ASSERT_NE(journal, nullptr) << kept;
    const auto records = all_records(*journal);
    const bool cut =
        kept > 0 && std::any_of(content.begin() + static_cast<std::ptrdiff_t>(last_at),
                                content.begin() + static_cast<std::ptrdiff_t>(last_at + kept),
                                [](std::byte b) { return b != std::byte{0}; });
    ASSERT_EQ(records.size(), cut ? 4U : 3U) << kept;
    EXPECT_EQ(records[1].event, intent());
    EXPECT_THAT(records[2].event.text, testing::HasSubstr("crashed"));
    if (cut) {
      EXPECT_EQ(records[3].event.operation, "audit.cut");
    }
    journal.reset();
    const auto report = audit::verify_files(*disk.open());
    EXPECT_TRUE(report->intact) << kept << ": " << report->problem;
  }
}

// A crash in the very first commit, at every byte of it.
TEST_F(JournalTest, TornFirstCommitAtEveryByteBeginsAgain) {
  must_open(disk).reset();
  const auto whole = disk.files();
  const auto& [name, content] = *whole.begin();
  audit::BlockReader reader(content);
  reader.next();
  for (std::size_t kept = 0; kept < reader.offset_bytes(); ++kept) {
    Bytes torn(content.begin(), content.begin() + static_cast<std::ptrdiff_t>(kept));
    torn.resize(65536);
    disk.put({{name, torn}});
    auto journal = must_open(disk);
    ASSERT_NE(journal, nullptr) << kept;
    EXPECT_EQ(all_records(*journal).front().sequence, 1U);
    journal.reset();
    const auto report = audit::verify_files(*disk.open());
    EXPECT_TRUE(report->intact) << kept << ": " << report->problem;
  }
}

TEST_F(JournalTest, DamageThatNoCrashMakesIsRefusedAndNothingChanged) {
  {
    auto journal = must_open(disk);
    for (int i = 0; i < 3; ++i) ASSERT_THAT(journal->append_one(intent()), Succeeds());
  }
  auto files = disk.files();
  Bytes& content = files.begin()->second;
  content[audit::kSegmentHeaderBytes + 50] ^= std::byte{1};
  disk.put(files);
  EXPECT_THAT(Journal::open(disk.open(), small_journal()), FailsWith(Reason::kAuditBroken));
  EXPECT_EQ(disk.files(), files);
  files = disk.files();
  files.begin()->second[3] ^= std::byte{1};
  disk.put(files);
  EXPECT_THAT(Journal::open(disk.open(), small_journal()), FailsWith(Reason::kAuditBroken));
}

TEST_F(JournalTest, QueryOfDamagedFilesSaysSo) {
  auto journal = must_open(disk);
  ASSERT_THAT(journal->append_one(intent()), Succeeds());
  auto files = disk.files();
  files.begin()->second[audit::kSegmentHeaderBytes + 50] ^= std::byte{1};
  disk.put(files);
  EXPECT_THAT(journal->query({}, 10), FailsWith(Reason::kAuditBroken));
  EXPECT_FALSE(journal->verify(0, 0)->intact);
  disk.put({});
  EXPECT_THAT(journal->query({}, 10), FailsWith(Reason::kAuditBroken));
}

TEST(JournalFolderTest, KeepsRecordsInARealFolderAndLetsOneWriterIn) {
  const TempDir folder;
  const std::string path = folder.path() / "audit";
  auto journal = Journal::open(path, small_journal());
  ASSERT_THAT(journal, Succeeds());
  ASSERT_THAT((*journal)->append_one(intent()), Succeeds());
  EXPECT_THAT(Journal::open(path, small_journal()), FailsWith(Reason::kBusy));
  journal->reset();
  journal = Journal::open(path, small_journal());
  ASSERT_THAT(journal, Succeeds());
  EXPECT_EQ(all_records(**journal).size(), 4U);
  journal->reset();
  const auto report = audit::verify_folder(path);
  ASSERT_THAT(report, Succeeds());
  EXPECT_TRUE(report->intact) << report->problem;
  EXPECT_THAT(audit::verify_folder(folder.path() / "none"), FailsWith(Reason::kNoSuchFile));
}

}  // namespace
}  // namespace coffer::tests
