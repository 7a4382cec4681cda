// SPDX-License-Identifier: Apache-2.0
// The command line as an operator and a script meet it, against the simulated engine.
#include <boost/json.hpp>
#include <csignal>
#include <filesystem>

#include "tests/integration/cli/agent_commands.h"

namespace coffer::tests {
namespace {

namespace json = boost::json;

using agent::VolumeState;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST_F(AgentCommandsTest, ListIsATableInTheOrderOfNames) {
  const auto listed = coffer({"list"});
  EXPECT_EQ(listed.status, 0);
  EXPECT_THAT(listed.out, testing::StartsWith("NAME   STATE"));
  EXPECT_LT(listed.out.find("\nvol-a"), listed.out.find("\nvol-b"));
  const auto all = coffer_json({"list"});
  EXPECT_EQ(all.as_array().size(), 2U);
  EXPECT_EQ(all.as_array()[0].as_object().at("UUID").as_string(), a.str());
}

TEST_F(AgentCommandsTest, StatusTellsOfTheHostAndOfAVolume) {
  engine->change_volume(b, [](auto& volume) {
    volume.state = VolumeState::kFailed;
    volume.last_error = Error(Reason::kHsmAbsent, "no token in the slot");
  });
  const auto host = coffer({"status"});
  EXPECT_EQ(host.status, 0);
  EXPECT_THAT(host.out, HasSubstr("2, 0 open, 1 failed"));
  EXPECT_THAT(host.out, HasSubstr("vol-b did not open: HsmAbsent: no token in the slot"));
  EXPECT_THAT(host.out, HasSubstr("coffer provider list"));
  const auto volume = coffer({"status", "vol-b"});
  EXPECT_EQ(volume.status, 0);
  EXPECT_THAT(volume.out, HasSubstr(b.str()));
  EXPECT_EQ(coffer_json({"status", "vol-b"}).as_object().at("State").as_string(), "failed");
  EXPECT_EQ(coffer_json({"status"}).as_object().at("NVolumes").to_number<int>(), 2);
}

TEST_F(AgentCommandsTest, UnlockWaitsAndShowsEachVolume) {
  const auto done = coffer({"unlock", "vol-a", "vol-b", "--reason", "ticket 4711"});
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("vol-a   done"));
  EXPECT_THAT(done.out, HasSubstr("unlock: done"));
  EXPECT_THAT(done.err, HasSubstr("vol-a: done\n"));
  EXPECT_EQ(state_of(b), VolumeState::kUnlocked);
  EXPECT_EQ(engine->last_caller().reason, "ticket 4711");
}

TEST_F(AgentCommandsTest, TheExitStatusTellsRetryableFromFinal) {
  engine->fail_volume("vol-b", Error(Reason::kHsmAbsent, "no token"));
  const auto later = coffer({"unlock", "--all"});
  EXPECT_EQ(later.status, 75);
  EXPECT_THAT(later.out, HasSubstr("HsmAbsent: no token"));

  engine->fail_volume("vol-a", Error(Reason::kProfileMismatch, "cipher"));
  const auto final = coffer_json({"unlock", "--all"}, 65);
  EXPECT_EQ(final.as_object().at("State").as_string(), "failed");
  EXPECT_EQ(final.as_object().at("Results").as_array().size(), 2U);

  const auto unknown = coffer({"unlock", "nothing"});
  EXPECT_EQ(unknown.status, 66);
  EXPECT_THAT(unknown.err, HasSubstr("no volume nothing"));
  EXPECT_THAT(unknown.err, HasSubstr("coffer list"));
  EXPECT_EQ(coffer_json({"unlock", "nothing"}, 66)
                .as_object()
                .at("error")
                .as_object()
                .at("name")
                .as_string(),
            "NoSuchVolume");
}

TEST_F(AgentCommandsTest, WrongUseIsSaidBeforeTheAgentIsAsked) {
  EXPECT_EQ(coffer({"unlock"}).status, 2);
  EXPECT_EQ(coffer({"unlock", "vol-a", "--all"}).status, 2);
  EXPECT_EQ(coffer({"lock", "vol-a", "--force", "--deferred"}).status, 2);
  EXPECT_EQ(coffer({"nonsense"}).status, 2);
  EXPECT_EQ(coffer({"key"}).status, 2);
  EXPECT_THAT(engine->effects(), IsEmpty());
}

TEST_F(AgentCommandsTest, WithoutAnAgentItSaysSoAndMayBeTriedAgain) {
  service.reset();
  const auto nobody_there = coffer({"list"});
  EXPECT_EQ(nobody_there.status, 75);
  EXPECT_THAT(nobody_there.err, HasSubstr("AgentUnreachable"));
  EXPECT_THAT(nobody_there.err, HasSubstr("systemctl status cofferd"));
  bus_.stop();
  EXPECT_EQ(coffer({"list"}).status, 75);
}

TEST_F(AgentCommandsTest, NoWaitNamesTheJobAndJobWaitFollowsIt) {
  engine->hold();
  const auto started = coffer({"unlock", "vol-a", "--no-wait"});
  EXPECT_EQ(started.status, 0);
  EXPECT_THAT(started.out, HasSubstr("coffer job wait 1"));
  EXPECT_EQ(state_of(a), VolumeState::kLocked);
  EXPECT_THAT(coffer({"job", "list"}).out, HasSubstr("1    unlock     queued"));
  const auto running = coffer({"job", "show", "1"});
  EXPECT_EQ(running.status, 0);
  EXPECT_THAT(running.out, HasSubstr("unlock: queued\n"));  // And no duration yet.
  engine->release();
  const auto waited = coffer({"job", "wait", "1"});
  EXPECT_EQ(waited.status, 0) << waited.err;
  EXPECT_EQ(state_of(a), VolumeState::kUnlocked);
  EXPECT_EQ(coffer({"job", "show", "1"}).status, 0);
  EXPECT_EQ(coffer({"job", "wait", "99"}).status, 66);
}

TEST_F(AgentCommandsTest, AJobIsCancelled) {
  engine->hold();
  ASSERT_EQ(coffer({"unlock", "vol-a", "--no-wait"}).status, 0);
  EXPECT_EQ(coffer({"job", "cancel", "1"}).status, 0);
  engine->release();
  EXPECT_EQ(coffer({"job", "wait", "1"}).status, 75);
  EXPECT_EQ(state_of(a), VolumeState::kLocked);
}

TEST_F(AgentCommandsTest, CtrlCEndsTheWaitingNotTheJob) {
  engine->add_volume("vol-c");
  engine->add_volume("vol-d");
  const auto interrupt_after_first = [&](pid_t program, const std::string& err) {
    if (err.find(": done") == std::string::npos) return;
    engine->hold();
    ::kill(program, SIGINT);
  };
  const auto interrupted = run_command(*loop, words_of({"unlock", "--all"}),
                                       std::chrono::seconds(30), interrupt_after_first);
  EXPECT_EQ(interrupted.status, 130);
  EXPECT_THAT(interrupted.err, HasSubstr("job 1 goes on"));
  engine->release();
  EXPECT_EQ(wait_for_job("/org/coffer/Agent1/job/1"), "done");
}

TEST_F(AgentCommandsTest, ATerminalShowsABarInsteadOfLines) {
  if (!std::filesystem::exists("/usr/bin/script")) GTEST_SKIP() << "script(1) is not installed";
  const std::string line =
      (bin_dir() / "coffer").string() + " unlock --all --bus " + bus_.address();
  const auto shown = run_command(*loop, {"/usr/bin/script", "-qec", line, "/dev/null"});
  EXPECT_EQ(shown.status, 0) << shown.out;
  EXPECT_THAT(shown.out, HasSubstr("\runlock ["));
  EXPECT_THAT(shown.out, Not(HasSubstr("vol-a: done")));
  EXPECT_THAT(shown.out, HasSubstr("unlock: done"));
}

TEST_F(AgentCommandsTest, LockVerifyForgetProvisionAdoptAndScan) {
  EXPECT_EQ(coffer({"unlock", "vol-a"}).status, 0);
  const auto busy = coffer({"forget", "vol-a"});
  EXPECT_EQ(busy.status, 69);
  EXPECT_THAT(busy.err, HasSubstr("Busy"));
  EXPECT_EQ(coffer({"lock", "vol-a", "--deferred"}).status, 0);
  EXPECT_EQ(coffer({"verify", "--all"}).status, 0);
  EXPECT_EQ(coffer({"forget", "vol-a"}).status, 0);
  EXPECT_FALSE(engine->volume(a));
  EXPECT_EQ(
      coffer({"provision", "/dev/disk/by-id/new", "--name", "fresh", "--fs", "ext4", "--no-auto"})
          .status,
      0);
  const auto fresh = engine->resolve("fresh");
  ASSERT_TRUE(fresh);
  EXPECT_FALSE(engine->volume(*fresh)->automatic);
  EXPECT_EQ(coffer({"adopt", "/dev/disk/by-id/lost"}).status, 0);
  EXPECT_EQ(coffer({"scan"}).status, 0);
  EXPECT_EQ(coffer({"provision", "new"}).status, 64);
  for (const auto* seconds : {"-5", "0", "1e300", "soon"}) {
    EXPECT_EQ(coffer({"unlock", "vol-b", "--timeout", seconds}).status, 2) << seconds;
    EXPECT_EQ(coffer({"lock", "vol-b", "--deadline", seconds}).status, 2) << seconds;
  }
}

TEST_F(AgentCommandsTest, AVolumeOfSeveralKeys) {
  ASSERT_EQ(coffer({"key", "create", "second"}).status, 0);
  const auto provision = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words{"provision", "/dev/disk/by-id/new", "--name", "several"};
    words.insert(words.end(), more.begin(), more.end());
    return coffer(words);
  };
  EXPECT_THAT(provision({"--key", "default", "--key", "none"}).err, HasSubstr("NoSuchKey"));
  EXPECT_THAT(provision({"--key", "default", "--key", "second", "--threshold", "3"}).err,
              HasSubstr("InvalidArgs"));
  EXPECT_EQ(provision({"--key", "default", "--threshold", "0"}).status, 2);
  EXPECT_EQ(provision({"--key", "default", "--key", "second", "--threshold", "2"}).status, 0);
  EXPECT_TRUE(engine->resolve("several"));
}

TEST_F(AgentCommandsTest, ARefusedDeviceIsToldWithItsConfirmation) {
  engine->fail_volume("/dev/sdx", Error(Reason::kForeignData, "ext4 found; --confirm ABC-123"));
  const auto refused = coffer({"provision", "/dev/sdx"});
  EXPECT_EQ(refused.status, 69);
  EXPECT_THAT(refused.out, HasSubstr("ForeignData: ext4 found; --confirm ABC-123"));
  EXPECT_THAT(refused.err, HasSubstr("give --confirm"));
}

TEST_F(AgentCommandsTest, Keys) {
  EXPECT_EQ(coffer({"key", "create", "second", "--description", "for tests"}).status, 0);
  EXPECT_THAT(coffer({"key", "list"}).out, HasSubstr("second   Enabled"));
  EXPECT_EQ(coffer({"key", "disable", "second"}).status, 0);
  EXPECT_EQ(coffer({"key", "rotate", "second"}).status, 0);
  const auto shown = coffer_json({"key", "show", "second"});
  EXPECT_EQ(shown.as_object().at("State").as_string(), "Disabled");
  EXPECT_EQ(shown.as_object().at("Version").to_number<int>(), 2);
  EXPECT_EQ(coffer({"key", "enable", "second"}).status, 0);
  EXPECT_EQ(coffer({"key", "show", "none"}).status, 66);
  EXPECT_EQ(coffer({"key", "create", "second"}).status, 69);
}

TEST_F(AgentCommandsTest, TheAuditTrail) {
  ASSERT_EQ(coffer({"unlock", "vol-a"}).status, 0);
  EXPECT_THAT(coffer({"audit", "query", "--operation", "unlock"}).out, HasSubstr("unlock  vol-a"));
  EXPECT_EQ(coffer_json({"audit", "query"}).as_array().size(), 1U);
  EXPECT_EQ(coffer_json({"audit", "query", "--since", "1h"}).as_array().size(), 1U);
  EXPECT_EQ(coffer_json({"audit", "query", "--until", "1h"}).as_array().size(), 0U);
  EXPECT_EQ(coffer_json({"audit", "query", "--since", "2000-01-01 03:00"}).as_array().size(), 1U);
  for (const auto* before_1970 : {"30000d", "4294967295d"}) {
    EXPECT_EQ(coffer_json({"audit", "query", "--since", before_1970}).as_array().size(), 1U);
    EXPECT_EQ(coffer_json({"audit", "query", "--until", before_1970}).as_array().size(), 0U);
  }
  for (const auto* wrong : {"yesterday", "5", "-1h", "2h ago", "99999999999d"})
    EXPECT_EQ(coffer({"audit", "query", "--since", wrong}).status, 2) << wrong;
  EXPECT_EQ(coffer({"audit", "verify"}).status, 0);
  const auto again = loop->every(std::chrono::milliseconds(50),
                                 [&] { static_cast<void>(engine->verify({a}, {})); });
  const auto tail = coffer({"audit", "tail", "--count", "2"});
  EXPECT_EQ(tail.status, 0);
  EXPECT_EQ(std::count(tail.out.begin(), tail.out.end(), '\n'), 2);
}

TEST_F(AgentCommandsTest, Providers) {
  EXPECT_THAT(coffer({"provider", "list"}).out, HasSubstr("local  development  up"));
  EXPECT_EQ(coffer({"provider", "test"}).status, 0);
  EXPECT_EQ(coffer({"provider", "test", "none"}).status, 64);
}

TEST_F(AgentCommandsTest, WaitingForAProviderEndsWithItsStateOrItsReason) {
  const auto up = coffer({"provider", "wait"});
  EXPECT_EQ(up.status, 0) << up.err;
  EXPECT_THAT(up.out, HasSubstr("up: simulated"));
  EXPECT_EQ(coffer_json({"provider", "wait", "local"}).as_object().at("State").as_string(), "up");
  EXPECT_EQ(coffer({"provider", "wait", "none"}).status, 64);

  engine->fail_provider(Error(Reason::kHsmPinLocked, "the token refuses every PIN"));
  const auto locked = coffer({"provider", "wait", "--timeout", "0.1"});
  EXPECT_EQ(locked.status, reason_info(Reason::kHsmPinLocked).exit_status);
  EXPECT_THAT(locked.err, HasSubstr("the token refuses every PIN\n  HsmPinLocked"));
}

TEST_F(AgentCommandsTest, ADeniedCallerIsToldWhatToDo) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to call as another user";
  const auto words = words_of({"unlock", "vol-a"});
  std::vector<std::string> as_nobody{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"};
  as_nobody.insert(as_nobody.end(), words.begin(), words.end());
  const auto denied = run_command(*loop, as_nobody);
  if (denied.status == 127 || denied.err.find("Permission denied") != std::string::npos)
    GTEST_SKIP() << "another user cannot run the program where it was built";
  EXPECT_EQ(denied.status, 77);
  EXPECT_THAT(denied.err, HasSubstr("have polkit allow it"));
  EXPECT_THAT(engine->effects(), IsEmpty());
}

}  // namespace
}  // namespace coffer::tests
