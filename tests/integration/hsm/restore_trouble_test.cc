// SPDX-License-Identifier: Apache-2.0
// `coffer init --restore` on hosts that are not empty: with units, an id, or a token of their own.
#include "tests/integration/hsm/restore_host.h"

namespace coffer::hsm {
namespace {

class RestoreTroubleTest : public RestoreTest {
 protected:
  std::string log() const { return tests::read_text(dir_.path() / "log"); }
  // All is lost but the host's id.
  void lose_all_but_id(const std::string& host) const {
    const auto id = tests::read_text(places(host).host_id());
    lose(host);
    fs::create_directories(fs::path(places(host).host_id()).parent_path());
    std::ofstream(places(host).host_id()) << id;
  }
  CommandEnd restore_with_units(const std::string& host, const std::string& failing = "nothing") {
    fs::remove(dir_.path() / "log");
    return restore(host,
                   {"--systemctl", tests::make_systemctl(dir_.path(), failing), "--wait", "0"});
  }
};

constexpr const char* kStop =
    "stop cofferd.socket cofferd.service coffer-vault@local.socket coffer-vault@local.service\n";

TEST_F(RestoreTroubleTest, NothingStartsOverARestoreThatFailedOnAHostWithItsId) {
  make_host("host");
  ASSERT_EQ(back_up("host").status, 0);
  lose_all_but_id("host");
  ASSERT_EQ(restore("host", {"--stop-after", "config"}).status, 99);
  const fs::path pin = places("host").credential();
  fs::rename(pin, pin.string() + ".away");

  const auto failed = restore_with_units("host");
  EXPECT_NE(failed.status, 0) << failed.output;
  EXPECT_THAT(failed.output, HasSubstr("cofferd does not start until this restore is finished"));
  EXPECT_EQ(log(), kStop);
  EXPECT_TRUE(fs::exists(places("host").restore_mark()));
  EXPECT_FALSE(fs::exists(places("host").agent_state()));

  fs::rename(pin.string() + ".away", pin);
  const auto done = restore_with_units("host");
  ASSERT_EQ(done.status, 0) << done.output;
  EXPECT_TRUE(log().starts_with(kStop)) << log();
  EXPECT_THAT(log(), HasSubstr("enable --now cofferd.service\n"));
  expect_complete("host");
  expect_volume_opens("host");
}

// Its unit gave it the folder that is exchanged.
TEST_F(RestoreTroubleTest, AgentThatWaitsForInitIsStoppedFirst) {
  make_host("host");
  ASSERT_EQ(back_up("host").status, 0);
  lose("host");
  const auto held = restore_with_units("host", "coffer-vault@local.service");
  EXPECT_EQ(held.status, 75) << held.output;
  EXPECT_THAT(held.output, HasSubstr("cofferd could not be stopped"));
  EXPECT_TRUE(fs::exists(places("host").restore_mark()));
  EXPECT_FALSE(fs::exists(places("host").agent_state()));
  EXPECT_FALSE(fs::exists(places("host").host_id()));

  const auto done = restore_with_units("host");
  ASSERT_EQ(done.status, 0) << done.output;
  EXPECT_TRUE(log().starts_with(kStop)) << log();
  expect_complete("host");
}

TEST_F(RestoreTroubleTest, TokenMadeWithoutTheFloorsOfTheBackupIsRefused) {
  make_host("host");
  ASSERT_EQ(back_up("host").status, 0);
  const auto shares = shares_of("host");
  for (const auto& share : shares) fs::rename(share, dir_.path() / fs::path(share).filename());
  const auto away = [&](std::size_t i) {
    return (dir_.path() / fs::path(shares[i]).filename()).string();
  };
  lose_all_but_id("host");
  const auto made = init("host", {"--from-shares", away(0), away(1), "--no-first-key"});
  ASSERT_EQ(made.status, 0) << made.output;

  const auto refused = restore("host");
  EXPECT_THAT(refused.output, HasSubstr("NameTaken")) << refused.output;
  EXPECT_THAT(refused.output, HasSubstr("was set up before this restore")) << refused.output;
  EXPECT_FALSE(fs::exists(places("host").restore_mark()));
  EXPECT_FALSE(fs::exists(places("host").staging()));
  fs::remove_all(places("host").vault_state());
  fs::remove(places("host").config());
  const auto done = restore("host");
  EXPECT_EQ(done.status, 0) << done.output;
  expect_complete("host");
  expect_volume_opens("host");
}

TEST_F(RestoreTroubleTest, HostThatLostItsKeyRecordsAloneTakesThemFromTheBackup) {
  make_host("host");
  ASSERT_EQ(back_up("host").status, 0);
  fs::remove_all(places("host").agent_state());
  const auto done = restore("host");
  ASSERT_EQ(done.status, 0) << done.output;
  expect_complete("host");
  expect_volume_opens("host");
}

}  // namespace
}  // namespace coffer::hsm
