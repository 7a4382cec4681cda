// SPDX-License-Identifier: Apache-2.0
// `coffer init` as a whole, below a folder: what it makes, who owns it, and what a crash leaves.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <pwd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "agent/config.h"
#include "core/base/files.h"
#include "core/keyring/key_store.h"
#include "hsm/host_setup.h"
#include "hsm/pin_mark.h"
#include "hsm/vault_config.h"
#include "tests/integration/hsm/init_host.h"
#include "tests/integration/hsm/waiting_agent.h"
#include "tests/support/command.h"
#include "tests/support/fault_script_file.h"
#include "tests/support/paths.h"
#include "tests/support/result_matchers.h"
#include "tests/support/softhsm.h"
#include "tests/support/temp_dir.h"

namespace coffer::hsm {
namespace {
namespace fs = std::filesystem;

using tests::Succeeds;
using tests::WaitingAgent;

using tests::CommandEnd;
using tests::kAgentUser;
using tests::kVaultUser;
using tests::mode_of;
using tests::read_text;

std::string owner_of(const fs::path& path) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return "nobody: not there";
  const passwd* user = ::getpwuid(status.st_uid);
  return user != nullptr ? user->pw_name : "?";
}

// Whether the file system has not even chosen blocks for what was written to the file: a power cut
// now leaves it empty.
bool only_in_page_cache(const fs::path& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  // The head, and room for one extent behind it.
  alignas(fiemap) std::array<std::byte, sizeof(fiemap) + sizeof(fiemap_extent)> map{};
  auto* const head = reinterpret_cast<fiemap*>(map.data());
  head->fm_length = FIEMAP_MAX_OFFSET;
  head->fm_extent_count = 1;
  return ::ioctl(fd.get(), FS_IOC_FIEMAP, head) == 0 && head->fm_mapped_extents == 1 &&
         (head->fm_extents[0].fe_flags & FIEMAP_EXTENT_DELALLOC) != 0;
}

class InitTest : public tests::InitHostTest {
 protected:
  using InitHostTest::InitHostTest;

  // The line of the output that tells the root key.
  static std::string root_of(const CommandEnd& outcome) {
    const auto at = outcome.output.find("root key         ");
    return at == std::string::npos ? std::string() : outcome.output.substr(at + 17, 32);
  }

  void expect_complete(const std::string& host) const {
    EXPECT_FALSE(fs::exists(places(host).vault_state() + "/softhsm-init"));
    HostSetup setup(places(host));
    EXPECT_EQ(setup.how_far(), HostSetup::Progress::kConfigured);
    EXPECT_TRUE(setup.first_key_there().value());
    EXPECT_TRUE(setup.host_id_there());
    EXPECT_FALSE(fs::exists(places(host).pending_host_id()));
    EXPECT_FALSE(fs::exists(places(host).staging()));
    EXPECT_THAT(VaultConfig::read(places(host).config()), Succeeds());
  }
};

TEST_F(InitTest, MakesATokenThatOnlyTheVaultReadsAndAFirstKey) {
  const auto done = init("host", {"--yes"});
  ASSERT_EQ(done.status, 0) << done.output;
  expect_complete("host");

  const auto state = places("host").vault_state();
  EXPECT_EQ(owner_of(state), kVaultUser);
  EXPECT_EQ(mode_of(state), 0700U);
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(state) / "tokens")) {
    EXPECT_EQ(owner_of(entry.path()), kVaultUser) << entry.path();
    EXPECT_EQ(mode_of(entry.path()) & 0077U, 0U) << entry.path();
  }
  EXPECT_EQ(owner_of(places("host").agent_state()), kAgentUser);
  EXPECT_EQ(mode_of(places("host").agent_state()), 0700U);
  EXPECT_EQ(owner_of(places("host").credential()), "root");
  EXPECT_EQ(mode_of(places("host").credential()), 0600U);
  EXPECT_NE(read_text(places("host").drop_in()).find("LoadCredential=pin:"), std::string::npos);
  EXPECT_EQ(shares_of("host").size(), 3U);
  for (const auto& file : shares_of("host")) EXPECT_EQ(mode_of(file), 0600U);

  // The PIN stands in its credential and nowhere else.
  const auto pin = read_text(places("host").credential());
  ASSERT_EQ(pin.size(), 32U);
  EXPECT_EQ(done.output.find(pin), std::string::npos);
  for (const auto& entry : fs::recursive_directory_iterator(dir_.path())) {
    if (!entry.is_regular_file() || entry.path() == places("host").credential()) continue;
    EXPECT_EQ(read_text(entry.path()).find(pin), std::string::npos) << entry.path();
  }
}

// Files of other tests may be kept in memory, where nothing is ever written.
class InitOnDiskTest : public InitTest {
 protected:
  InitOnDiskTest() : InitTest("/var/tmp") {}
};

TEST_F(InitOnDiskTest, TokensFilesAreOnTheDiskBeforeTheTokenCounts) {
  std::ofstream(at("", "unsynced")) << std::string(8192, 'x');
  if (!only_in_page_cache(at("", "unsynced")))
    GTEST_SKIP() << "the file system does not tell what it has not written";
  ASSERT_EQ(init("host", {"--yes", "--stop-after", "state"}).status, 99);
  std::size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(places("host").vault_state())) {
    if (!entry.is_regular_file()) continue;
    ++files;
    EXPECT_FALSE(only_in_page_cache(entry.path())) << entry.path();
  }
  EXPECT_GE(files, 5U);
}

TEST_F(InitTest, SecondRunRefusesAndChangesNothing) {
  ASSERT_EQ(init("host", {"--yes"}).status, 0);
  const auto config = read_text(places("host").config());
  const auto pin = read_text(places("host").credential());
  const auto again = init("host", {"--yes"});
  EXPECT_NE(again.status, 0);
  EXPECT_NE(again.output.find("NameTaken"), std::string::npos) << again.output;
  EXPECT_EQ(read_text(places("host").config()), config);
  EXPECT_EQ(read_text(places("host").credential()), pin);
}

TEST_F(InitTest, HostWithoutAFirstKeyIsLeftToItsAgent) {
  ASSERT_EQ(init("host", {"--yes", "--no-first-key"}).status, 0);
  // What its agent makes when it begins.
  const fs::path state = places("host").agent_state();
  fs::create_directories(state);
  ASSERT_THAT(keyring::open_sqlite_key_store((state / "keyring.db").string()), Succeeds());
  const RunAs agent{kAgentUser};
  ASSERT_THAT(agent.change_owner(state.string()), Succeeds());
  for (const auto& entry : fs::directory_iterator(state))
    ASSERT_THAT(agent.change_owner(entry.path().string()), Succeeds());

  const auto again = init("host", {"--yes"});
  EXPECT_NE(again.output.find("NameTaken"), std::string::npos) << again.output;
  EXPECT_NE(again.output.find("coffer key create default"), std::string::npos) << again.output;
  HostSetup setup(places("host"));
  EXPECT_FALSE(setup.first_key_there().value());
}

TEST_F(InitTest, RunThatStoppedAfterAnyStepIsFinishedByTheNext) {
  for (const std::string step :
       {"host-id", "staging", "token", "credential", "state", "config", "first-key", "published"}) {
    const auto stopped = init(step, {"--yes", "--stop-after", step});
    EXPECT_EQ(stopped.status, 99) << step << "\n" << stopped.output;
    const bool all_done = step == "published";
    // Until all is there an agent that waits goes on waiting.
    EXPECT_EQ(fs::exists(places(step).host_id()), all_done) << step;
    const auto id = read_text(all_done ? places(step).host_id() : places(step).pending_host_id());
    EXPECT_FALSE(id.empty()) << step;
    const auto finished = init(step, {"--yes"});
    // After the last step everything is there, and the next run says so.
    EXPECT_EQ(finished.status == 0, !all_done) << step << "\n" << finished.output;
    expect_complete(step);
    EXPECT_EQ(read_text(places(step).host_id()), id) << step;
  }
}

TEST_F(InitTest, AgentThatWaitsMeanwhileBeginsWhenAllIsThere) {
  const WaitingAgent agent(dir_.path() / "host");
  ASSERT_TRUE(agent.says("waiting for `coffer init`"));
  // As if the operator took long over the shares: it must not begin yet, or it holds the journal.
  ASSERT_EQ(init("host", {"--yes", "--stop-after", "config"}).status, 99);
  ASSERT_FALSE(fs::exists(places("host").host_id()));

  const auto done = init("host", {"--yes"});
  ASSERT_EQ(done.status, 0) << done.output;
  EXPECT_TRUE(agent.says("serving"));
  expect_complete("host");
}

TEST_F(InitTest, IdThatTheHostHadBeforeIsKept) {
  fs::create_directories(at("host", "etc/coffer"));
  const std::string id = "11111111-2222-4333-8444-555555555555\n";
  std::ofstream(places("host").host_id()) << id;
  const auto done = init("host", {"--yes"});
  ASSERT_EQ(done.status, 0) << done.output;
  expect_complete("host");
  EXPECT_EQ(read_text(places("host").host_id()), id);
}

TEST_F(InitTest, AnySharesMakeTheSameKeysOnAnotherHost) {
  const auto first = init("first", {"--yes", "--shares", "2/3"});
  ASSERT_EQ(first.status, 0) << first.output;
  const auto files = shares_of("first");
  const auto second = init("second", {"--yes", "--from-shares", files[2], files[0]});
  ASSERT_EQ(second.status, 0) << second.output;
  EXPECT_EQ(root_of(second), root_of(first));
  EXPECT_EQ(root_of(first).size(), 32U);
  expect_complete("second");

  // A host that has volumes to adopt: their keys bring the alias.
  const auto bare = init("bare", {"--yes", "--no-first-key", "--from-shares", files[0], files[1]});
  ASSERT_EQ(bare.status, 0) << bare.output;
  EXPECT_EQ(root_of(bare), root_of(first));
  EXPECT_TRUE(fs::exists(places("bare").host_id()));
  EXPECT_FALSE(fs::exists(places("bare").agent_state() + "/keyring.db"));

  const auto too_few = init("third", {"--yes", "--from-shares", files[1]});
  EXPECT_NE(too_few.status, 0);
  EXPECT_FALSE(fs::exists(places("third").vault_state()));
}

TEST_F(InitTest, NothingIsMadeBeforeTheSharesAreConfirmed) {
  ASSERT_EQ(init("other", {"--yes"}).status, 0);
  const auto others = shares_of("other");
  const auto wrong = init("host", {"--shares-dir", at("host", "shares").string(),
                                   "--confirm-shares", others[0], others[1]});
  EXPECT_NE(wrong.status, 0);
  EXPECT_NE(wrong.output.find("ConfirmMismatch"), std::string::npos) << wrong.output;
  // Neither does an operator who types nothing.
  const auto silent = init("host", {});
  EXPECT_NE(silent.status, 0);
  EXPECT_NE(silent.output.find("ConfirmMismatch"), std::string::npos) << silent.output;
  EXPECT_FALSE(fs::exists(places("host").vault_state()));
  EXPECT_FALSE(fs::exists(places("host").staging()));
  EXPECT_FALSE(fs::exists(places("host").credential()));
}

TEST_F(InitTest, SharesAreShownOnceAndTypedBack) {
  // A pipe whose writer answers what is shown: the shares in the output file, in reverse order.
  const auto fifo = (dir_.path() / "typed").string();
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const auto output = dir_.path() / "output";
  const pid_t operator_pid = ::fork();
  if (operator_pid == 0) {
    std::ofstream typed(fifo);  // Opens when `coffer init` reads.
    for (int i = 0; i < 20000; ++i) {
      const auto shown = read_text(output);
      const auto third = shown.find("# Coffer recovery share 3");
      const auto asked = shown.find("Type the four lines");
      if (third != std::string::npos && asked != std::string::npos) {
        const auto first = shown.find("# Coffer recovery share 1");
        const auto second = shown.find("# Coffer recovery share 2");
        typed << "1234\n1\n2\n3\n"
              << shown.substr(third, asked - third) << shown.substr(first, second - first)
              << std::flush;
        ::_exit(0);
      }
      ::usleep(1000);
    }
    ::_exit(1);
  }
  const auto done = init("host", {}, fifo);
  int status = -1;
  ::waitpid(operator_pid, &status, 0);
  EXPECT_EQ(status, 0);
  ASSERT_EQ(done.status, 0) << done.output;
  EXPECT_NE(done.output.find("recovery shares confirmed"), std::string::npos);
  EXPECT_FALSE(fs::exists(at("host", "root")));
  expect_complete("host");
}

TEST_F(InitTest, KeysGeneratedInTheTokenAreSaidToHaveNoBackup) {
  const auto done = init("host", {"--yes", "--generate-in-token"});
  ASSERT_EQ(done.status, 0) << done.output;
  EXPECT_NE(done.output.find("NOBODY CAN BACK THEM UP"), std::string::npos);
  EXPECT_NE(done.output.find("generated in the token"), std::string::npos);
  EXPECT_FALSE(fs::exists(at("host", "root")));
  expect_complete("host");
}

TEST_F(InitTest, NoRecoverySaysWhatItMeans) {
  const auto done = init("host", {"--yes", "--no-recovery"});
  ASSERT_EQ(done.status, 0) << done.output;
  EXPECT_NE(done.output.find("lost with it"), std::string::npos);
  expect_complete("host");
}

TEST_F(InitTest, UnitsThatDoNotStartAreNamedAndFailTheRun) {
  const auto systemctl = tests::make_systemctl(dir_.path(), "coffer-worker.socket|cofferd.service");
  const auto done = init("host", {"--yes", "--systemctl", systemctl});
  EXPECT_EQ(done.status, 69) << done.output;
  EXPECT_NE(done.output.find("started          coffer-reader.socket\n"), std::string::npos);
  EXPECT_NE(done.output.find("coffer: coffer-worker.socket could not be"), std::string::npos);
  EXPECT_NE(done.output.find("coffer: cofferd.service could not be"), std::string::npos);
  EXPECT_EQ(done.output.find("started          coffer-worker.socket"), std::string::npos);
  EXPECT_EQ(done.output.find("cofferd and its sockets"), std::string::npos) << done.output;
  expect_complete("host");

  const auto none =
      init("other", {"--yes", "--systemctl", tests::make_systemctl(dir_.path(), "*")});
  EXPECT_EQ(none.status, 69) << none.output;
  EXPECT_EQ(none.output.find("started   "), std::string::npos) << none.output;
  EXPECT_EQ(init("third", {"--yes", "--systemctl", "/nowhere/systemctl"}).status, 69);
}

TEST_F(InitTest, TokenThatCofferdDoesNotFindUpFailsTheRunWithItsReason) {
  const auto systemctl = tests::make_systemctl(dir_.path(), "nothing");
  const auto no_bus = "unix:path=" + (dir_.path() / "no-bus").string();
  const auto done =
      init("host", {"--yes", "--systemctl", systemctl, "--bus", no_bus, "--wait", "1"});
  EXPECT_EQ(done.status, 75) << done.output;
  EXPECT_NE(done.output.find("started          cofferd and its sockets"), std::string::npos);
  EXPECT_NE(done.output.find("AgentUnreachable"), std::string::npos) << done.output;
  EXPECT_NE(done.output.find("does not find the token up after 1 s"), std::string::npos)
      << done.output;
  const auto log = read_text(dir_.path() / "log");
  EXPECT_NE(log.find("enable --now cofferd.service\n"), std::string::npos) << log;
  EXPECT_NE(log.find("enable coffer-boot.service\n"), std::string::npos) << log;
  expect_complete("host");

  const auto patient = init("other", {"--yes", "--systemctl", systemctl, "--wait", "0"});
  EXPECT_EQ(patient.status, 0) << patient.output;
}

TEST_F(InitTest, AgentUsesTheVaultThatWasNamed) {
  const auto stopped =
      init("host", {"--yes", "--token-name", "other", "--stop-after", "agent-config"});
  ASSERT_EQ(stopped.status, 99) << stopped.output;
  const auto done = init("host", {"--yes", "--token-name", "other"});
  ASSERT_EQ(done.status, 0) << done.output;
  HostPlaces made = places("host");
  made.token_name = "other";
  EXPECT_TRUE(fs::exists(made.config()));
  const auto config = agent::load_config(made.agent_config());
  ASSERT_THAT(config, Succeeds());
  EXPECT_EQ(config->vault_token, "other");

  // A host whose agent needs no telling is not given a configuration.
  ASSERT_EQ(init("plain", {"--yes"}).status, 0);
  EXPECT_FALSE(fs::exists(places("plain").agent_config()));
}

TEST_F(InitTest, ConfigurationOfTheAgentThatNamesAnotherVaultIsLeftAlone) {
  fs::create_directories(at("host", "etc/coffer"));
  const std::string text = "[vault]\ntoken = \"theirs\"\n";
  std::ofstream(places("host").agent_config()) << text;
  for (const std::string name : {"local", "other"}) {
    const auto refused = init("host", {"--yes", "--token-name", name});
    EXPECT_NE(refused.status, 0);
    EXPECT_NE(refused.output.find("InvalidArgs"), std::string::npos) << refused.output;
    EXPECT_EQ(read_text(places("host").agent_config()), text);
    EXPECT_FALSE(fs::exists(at("host", "root")));  // No shares were handed out.
  }
  std::ofstream(places("host").agent_config()) << "token = nonsense";
  const auto refused = init("host", {"--yes"});
  EXPECT_NE(refused.output.find("ConfigInvalid"), std::string::npos) << refused.output;
}

TEST_F(InitTest, TokenThatIsThereAlreadyIsTakenWithItsKeys) {
  const auto first = init("host", {"--yes"});
  ASSERT_EQ(first.status, 0) << first.output;
  const auto config = VaultConfig::read(places("host").config());
  ASSERT_THAT(config, Succeeds());
  const auto pin_file = (dir_.path() / "pin").string();
  fs::copy_file(places("host").credential(), pin_file);
  const std::vector<std::string> take{"--yes",   "--token-name",   "second",
                                      "--token", config->uri_text, "--pin-file",
                                      pin_file,  "--softhsm-conf", config->softhsm_conf};
  // The agent uses the first vault, and only the admin may change that.
  const auto refused = init("host", take);
  EXPECT_NE(refused.status, 0);
  EXPECT_NE(refused.output.find("cofferd uses the vault \"local\""), std::string::npos)
      << refused.output;
  EXPECT_FALSE(fs::exists(places("host").agent_config()));
  std::ofstream(places("host").agent_config()) << "[vault]\ntoken = \"second\"\n";

  const auto second = init("host", take);
  // Its key is there already: what it finds is a host with a first key.
  ASSERT_EQ(second.status, 0) << second.output;
  EXPECT_NE(second.output.find("was there already"), std::string::npos) << second.output;
  EXPECT_EQ(root_of(second), root_of(first));
}

TEST_F(InitTest, StandbyHasTheRootKeyOfTheKeysThatAreThere) {
  std::ofstream(dir_.path() / "standby.toml") << "[vault]\ntoken = \"local\"\nstandby = \"b\"\n";
  const auto stand_by = [&] {
    fs::copy_file(dir_.path() / "standby.toml", places("host").agent_config(),
                  fs::copy_options::overwrite_existing);
  };
  fs::create_directories(at("host", "etc/coffer"));
  stand_by();
  const auto alone = init("host", {"--yes", "--token-name", "b"});
  EXPECT_NE(alone.output.find("NoSuchKey"), std::string::npos) << alone.output;
  const auto first = init("host", {"--yes"});
  ASSERT_EQ(first.status, 0) << first.output;
  const auto shares = shares_of("host");
  HostPlaces standby = places("host");
  standby.token_name = "b";

  ASSERT_EQ(init("other", {"--yes"}).status, 0);
  const auto others = shares_of("other");
  const auto wrong =
      init("host", {"--yes", "--token-name", "b", "--from-shares", others[0], others[1]});
  EXPECT_NE(wrong.output.find("ConfirmMismatch"), std::string::npos) << wrong.output;
  EXPECT_FALSE(fs::exists(standby.vault_state()));

  const auto second =
      init("host", {"--yes", "--token-name", "b", "--from-shares", shares[1], shares[2]});
  ASSERT_EQ(second.status, 0) << second.output;
  EXPECT_EQ(root_of(second), root_of(first));
  EXPECT_TRUE(fs::exists(standby.config()));
  EXPECT_EQ(second.output.find("first key"), std::string::npos) << second.output;
  EXPECT_NE(init("host", {"--yes", "--token-name", "c"}).output.find("cofferd uses the vault"),
            std::string::npos);
}

TEST_F(InitTest, PinThatTheTokenRefusedIsNotGivenToItAgainNorItsLastTryUsed) {
  ASSERT_EQ(init("host", {"--yes"}).status, 0);
  std::ofstream(places("host").agent_config()) << "[vault]\ntoken = \"second\"\n";
  const auto config = VaultConfig::read(places("host").config());
  ASSERT_THAT(config, Succeeds());
  HostPlaces second = places("host");
  second.token_name = "second";
  const auto take = [&](const std::string& pin_file) {
    return init("host", {"--yes", "--token-name", "second", "--token", config->uri_text,
                         "--pin-file", pin_file, "--softhsm-conf", config->softhsm_conf});
  };
  // The vault's user counts the tries.
  const RunAs vault_user{kVaultUser};
  const auto folder = dir_.path() / "faults";
  fs::create_directory(folder);
  ASSERT_THAT(vault_user.change_owner(folder.string()), Succeeds());
  const tests::FaultScriptFile script(folder);
  script.set("pin-tries 3\n");
  const auto set_tries = [&](int tries) {
    script.set_pin_tries_left(tries);
    return vault_user.change_owner((folder / "faults.pin").string());
  };
  ASSERT_THAT(set_tries(3), Succeeds());
  module_ = tests::fault_module_path();

  const auto wrong = (dir_.path() / "wrong").string();
  std::ofstream(wrong) << "not-the-pin\n";
  for (int run = 0; run < 3; ++run) {
    const auto refused = take(wrong);
    EXPECT_NE(refused.output.find("HsmPinIncorrect"), std::string::npos) << refused.output;
    EXPECT_EQ(read_text(folder / "faults.pin"), "2\n");
  }
  ASSERT_THAT(set_tries(1), Succeeds());
  const auto last = take(places("host").credential());
  EXPECT_NE(last.output.find("HsmPinLocked"), std::string::npos) << last.output;
  EXPECT_EQ(read_text(folder / "faults.pin"), "1");

  ASSERT_THAT(set_tries(2), Succeeds());
  const auto taken = take(places("host").credential());
  EXPECT_EQ(taken.status, 0) << taken.output;
  EXPECT_FALSE(fs::exists(second.pin_marks()));
}

TEST_F(InitTest, PinThatAServingVaultSawRefusedIsNotTriedOnceMore) {
  ASSERT_EQ(init("host", {"--yes"}).status, 0);
  std::ofstream(places("host").agent_config()) << "[vault]\ntoken = \"second\"\n";
  const auto config = VaultConfig::read(places("host").config());
  ASSERT_THAT(config, Succeeds());
  HostPlaces second = places("host");
  second.token_name = "second";
  const RunAs vault_user{kVaultUser};
  const auto mark = second.vault_state() + "/pin-refused";
  fs::create_directory(second.vault_state());
  const auto pin = read_secret_file(places("host").credential(), 256);
  ASSERT_THAT(pin, Succeeds());
  ASSERT_THAT(PinMark(mark).note(*pin, PinMark::Verdict::kRefused), Succeeds());
  for (const auto& path : {second.vault_state(), mark})
    ASSERT_THAT(vault_user.change_owner(path), Succeeds());
  const auto take = [&] {
    return init("host",
                {"--yes", "--token-name", "second", "--token", config->uri_text, "--pin-file",
                 places("host").credential(), "--softhsm-conf", config->softhsm_conf});
  };

  // The token would take it: nobody asks.
  const auto refused = take();
  EXPECT_NE(refused.output.find("HsmPinIncorrect"), std::string::npos) << refused.output;
  // The operator says that the token's PIN has changed.
  fs::remove(mark);
  fs::remove_all(second.pin_marks());
  const auto taken = take();
  EXPECT_EQ(taken.status, 0) << taken.output;
}

}  // namespace
}  // namespace coffer::hsm
