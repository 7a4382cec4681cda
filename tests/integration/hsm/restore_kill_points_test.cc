// SPDX-License-Identifier: Apache-2.0
// `coffer backup` and `coffer init --restore`, killed with all the processes they start as one of
// them is about to change a file: at some of these points, and at every one with
// COFFER_KILL_POINTS=all.
#include <cstdlib>
#include <iostream>

#include "hsm/cold_backup.h"
#include "hsm/key_drill.h"
#include "tests/integration/hsm/restore_host.h"
#include "tests/support/kill_point.h"

namespace coffer::hsm {
namespace {

using tests::Watched;

constexpr std::size_t kPointsOfAShortRun = 5;  // Of each operation.

Result<void> make_one_more(const HostSetup::Agent& agent) {
  keyring::CmkParameters parameters;
  parameters.alias = "off";
  const auto made = agent.keyring.create(parameters, admin());
  if (!made) return tl::unexpected(made.error());
  const auto off = agent.keyring.disable(made->id, admin());
  return off ? Result<void>() : Result<void>(tl::unexpected(off.error()));
}

class RestoreKillPointsTest : public RestoreTest {
 protected:
  void SetUp() override {
    RestoreTest::SetUp();
    if (!IsSkipped()) make_host("host", make_one_more);
  }

  static Result<tests::WatchedRun> watch(const std::vector<std::string>& words,
                                         std::optional<std::size_t> kill_at) {
    return tests::run_to_kill_point(words, {"ASAN_OPTIONS=detect_leaks=0"}, kill_at,
                                    Watched::kChildren);
  }
  // Points of `count`: all of them, or some, evenly.
  static std::vector<std::size_t> chosen(std::size_t count) {
    const char* wanted = std::getenv("COFFER_KILL_POINTS");
    const bool all = wanted != nullptr && std::string(wanted) == "all";
    const std::size_t number = all ? count : std::min(count, kPointsOfAShortRun);
    std::vector<std::size_t> points;
    points.reserve(number);
    for (std::size_t i = 0; i < number; ++i) points.push_back(i * count / number);
    return points;
  }

  // Shares and the backup outlive the host.
  void keep_shares() {
    for (const auto& share : {shares_of("host")[2], shares_of("host")[0]}) {
      shares_.push_back((dir_.path() / fs::path(share).filename()).string());
      fs::copy_file(share, shares_.back());
    }
  }
  std::vector<std::string> restore_words(const std::string& host) const {
    auto words = init_words(host);
    words.insert(words.end(), {"--restore", backup(), "--from-shares"});
    words.insert(words.end(), shares_.begin(), shares_.end());
    return words;
  }

  bool would_start(const std::string& host) const {
    return fs::exists(places(host).host_id()) && !fs::exists(places(host).restore_mark());
  }
  void expect_whole(const std::string& host) {
    expect_complete(host);
    expect_volume_opens(host);
    HostSetup setup(places(host));
    const auto drilled =
        setup.as_agent(places(host).agent_state(), SecretBytes(), std::chrono::seconds(90),
                       [](const HostSetup::Agent& agent) -> Result<void> {
                         const auto report = drill_keys(agent);
                         if (!report) return tl::unexpected(report.error());
                         if (report->opened == 1 && report->sealed == 1 && report->lost.empty())
                           return {};
                         return fail(Reason::kInternal, report->str());
                       });
    EXPECT_THAT(drilled, Succeeds());
  }

  // A host whose restore is killed at a point; with its id from before, or without.
  void kill_restore(std::size_t point, bool has_id) {
    SCOPED_TRACE((has_id ? "with its id" : "fresh") + std::string(", killed at point ") +
                 std::to_string(point));
    const std::string host = "killed";
    begin_host(host, has_id);
    const auto run = watch(restore_words(host), point);
    ASSERT_THAT(run, Succeeds());
    // Processes do not always come to the same number of calls.
    ASSERT_TRUE(run->killed || run->status == 0) << run->status;
    const bool untouched =
        has_id && HostSetup(places(host)).how_far() == HostSetup::Progress::kNothing;
    if (would_start(host) && !untouched) {
      ++started_whole_;
    } else {
      const auto finished = tests::run_command(restore_words(host));
      EXPECT_EQ(finished.status, 0) << finished.output;
    }
    expect_whole(host);
    lose(host);
  }
  void begin_host(const std::string& host, bool has_id) const {
    fs::create_directories(dir_.path() / host / "etc/coffer");
    if (has_id) std::ofstream(places(host).host_id()) << id_;
  }

  void kill_restores(bool has_id) {
    ASSERT_EQ(back_up("host").status, 0);
    keep_shares();
    id_ = tests::read_text(places("host").host_id());
    lose("host");
    begin_host("whole", has_id);
    const auto whole = watch(restore_words("whole"), std::nullopt);
    ASSERT_THAT(whole, Succeeds());
    ASSERT_EQ(whole->status, 0);
    expect_whole("whole");
    lose("whole");
    const auto points = chosen(whole->points);
    for (const std::size_t point : points) {
      if (!HasFailure()) kill_restore(point, has_id);
    }
    std::cout << "restore " << (has_id ? "with id" : "fresh") << ": killed at " << points.size()
              << " of " << whole->points << " points; whole all the same after " << started_whole_
              << "\n";
  }

  std::vector<std::string> shares_;
  std::string id_;
  std::size_t started_whole_ = 0;
};

TEST_F(RestoreKillPointsTest, BackupIsWholeOrNoneAndIsMadeByTheNextRun) {
  const auto whole = watch(backup_words("host"), std::nullopt);
  ASSERT_THAT(whole, Succeeds());
  ASSERT_EQ(whole->status, 0);
  fs::remove_all(backup());
  std::size_t made = 0;
  const auto points = chosen(whole->points);
  for (const std::size_t point : points) {
    SCOPED_TRACE("killed at point " + std::to_string(point));
    const auto run = watch(backup_words("host"), point);
    ASSERT_THAT(run, Succeeds());
    ASSERT_TRUE(run->killed || run->status == 0) << run->status;
    if (fs::exists(backup())) {
      ++made;
    } else {
      const auto next = back_up("host");
      ASSERT_EQ(next.status, 0) << next.output;
    }
    EXPECT_FALSE(fs::exists(backup() + ".partial"));
    ASSERT_THAT(check_backup(backup()), Succeeds());
    fs::remove_all(backup());
  }
  std::cout << "backup: killed at " << points.size() << " of " << whole->points
            << " points; made all the same at " << made << "\n";
}

TEST_F(RestoreKillPointsTest, RestoreOfAFreshHostIsFinishedByTheNextRun) {
  kill_restores(false);
}

TEST_F(RestoreKillPointsTest, RestoreOfAHostWithItsIdIsFinishedByTheNextRun) {
  kill_restores(true);
}

}  // namespace
}  // namespace coffer::hsm
