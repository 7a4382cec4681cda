// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "core/audit/journal.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/core/audit/journal_fixture.h"

namespace coffer::tests {
namespace {

using audit::Journal;

// A process that records as fast as it can from two threads and tells of each acknowledged record
// in its pipe, until it is killed.
[[noreturn]] void write_until_killed(const std::string& folder, int pipe) {
  auto journal = Journal::open(folder, small_journal());
  if (!journal) ::_exit(1);
  const auto record = [&] {
    audit::Event event = intent();
    event.text = std::string(300, 'k');
    for (;;) {
      const auto sequence = (*journal)->append_one(event);
      // One write of 8 bytes: whole in the pipe or not there.
      if (!sequence || ::write(pipe, &*sequence, sizeof(*sequence)) != sizeof(*sequence)) {
        ::_exit(1);
      }
    }
  };
  const std::thread other(record);
  record();
  ::_exit(1);
}

// Kills such a process after `acknowledged` records and gives all that were told.
std::vector<std::uint64_t> run_and_kill(const std::string& folder, std::size_t acknowledged) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return {};
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    write_until_killed(folder, ends[1]);
  }
  ::close(ends[1]);
  std::vector<std::uint64_t> told;
  std::uint64_t sequence = 0;
  bool killed = false;
  while (::read(ends[0], &sequence, sizeof(sequence)) == sizeof(sequence)) {
    told.push_back(sequence);
    if (told.size() >= acknowledged && !std::exchange(killed, true)) ::kill(child, SIGKILL);
  }
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return told;
}

TEST(JournalKillTest, AcknowledgedRecordsSurviveEveryKill) {
  const TempDir folder;
  const std::string path = folder.path() / "audit";
  std::vector<std::uint64_t> told;
  // Over the ends of segments as well: 64 KiB hold about 140 of these records.
  for (const std::size_t acknowledged : {1U, 2U, 3U, 5U, 20U, 150U, 300U}) {
    const auto more = run_and_kill(path, acknowledged);
    ASSERT_GE(more.size(), acknowledged);
    told.insert(told.end(), more.begin(), more.end());
  }
  auto journal = Journal::open(path, small_journal());
  ASSERT_THAT(journal, Succeeds());
  const auto report = (*journal)->verify(0, 0);
  ASSERT_THAT(report, Succeeds());
  EXPECT_TRUE(report->intact) << report->problem;

  std::sort(told.begin(), told.end());
  EXPECT_EQ(std::adjacent_find(told.begin(), told.end()), told.end()) << "acknowledged twice";
  std::size_t found = 0;
  for (const auto& record : all_records(**journal)) {
    if (std::binary_search(told.begin(), told.end(), record.sequence)) {
      EXPECT_EQ(record.event.kind, audit::Kind::kIntent);
      ++found;
    }
  }
  EXPECT_EQ(found, told.size());
}

}  // namespace
}  // namespace coffer::tests
