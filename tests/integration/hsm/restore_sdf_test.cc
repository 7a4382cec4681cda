// SPDX-License-Identifier: Apache-2.0
// Backup and restore of a host whose token is an SDF device: no shares, no PIN, and a file that
// only the device, or one with the same key encryption key, opens.
#include "tests/integration/hsm/restore_host.h"
#include "tests/support/sdf_folder.h"

namespace coffer::hsm {
namespace {

constexpr auto kTime = std::chrono::seconds(90);

class SdfRestoreTest : public RestoreTest {
 protected:
  void SetUp() override {
    RestoreTest::SetUp();
    if (IsSkipped()) return;
    device_ = std::make_unique<tests::SdfFolder>();
    kek_ = device_->add_kek();
    open_to_all();
  }
  // The vault's user plays with it.
  void open_to_all() const {
    fs::permissions(device_->path(), fs::perms(0777));
    for (const auto& entry : fs::recursive_directory_iterator(device_->path()))
      fs::permissions(entry.path(), fs::perms(0666));
  }

  void configure(const std::string& host) const {
    VaultConfig config;
    config.sdf_library = tests::sdf_library_path();
    config.sdf_kek = kek_;
    config.state_folder = places(host).vault_state();
    fs::create_directories(fs::path(places(host).config()).parent_path());
    ASSERT_THAT(write_file_durably(places(host).config(), as_bytes(config.to_text()), 0644),
                Succeeds());
  }
  // By hand, as docs/operations.md says.
  void make_sdf_host(const std::string& host) {
    configure(host);
    const auto state = places(host).vault_state();
    fs::create_directories(state);
    ASSERT_THAT(places(host).vault_user.change_owner(state), Succeeds());
    ASSERT_THAT(run_as(places(host).vault_user,
                       [&]() -> Result<void> {
                         const auto end =
                             tests::run_command({places(host).vault_program, "--config",
                                                 places(host).config(), "--make-sdf-keys"});
                         if (end.status == 0) return {};
                         return fail(Reason::kInternal, end.output);
                       }),
                Succeeds());
    HostSetup setup(places(host));
    ASSERT_THAT(setup.make_first_key(SecretBytes()), Succeeds());
    ASSERT_THAT(setup.as_agent(places(host).agent_state(), SecretBytes(), kTime, make_keys),
                Succeeds());
    ASSERT_THAT(setup.publish_host_id(), Succeeds());
  }

  std::unique_ptr<tests::SdfFolder> device_;
  unsigned kek_ = 0;
};

TEST_F(SdfRestoreTest, TheKeysOfTheDeviceAreBackedUpAndComeBack) {
  ASSERT_NO_FATAL_FAILURE(make_sdf_host("a"));
  const auto made = back_up("a");
  ASSERT_EQ(made.status, 0) << made.output;
  EXPECT_THAT(made.output, HasSubstr("copied           sdf-keys, "));
  const auto keys = tests::read_text(places("a").vault_state() + "/sdf-keys");
  EXPECT_FALSE(keys.empty());
  EXPECT_EQ(tests::read_text(backup() + "/sdf-keys"), keys);
  lose("a");

  // Nothing says how the device is spoken to.
  std::ofstream(typed()).close();
  const auto early = restore("b");
  EXPECT_EQ(early.status, 64) << early.output;
  EXPECT_THAT(early.output, HasSubstr("SDF device"));
  expect_nothing("b");

  ASSERT_NO_FATAL_FAILURE(configure("b"));
  const auto end = restore("b");
  ASSERT_EQ(end.status, 0) << end.output;
  EXPECT_EQ(tests::read_text(places("b").vault_state() + "/sdf-keys"), keys);
  EXPECT_EQ(tests::mode_of(places("b").vault_state()), 0700U);
  expect_complete("b");
  HostSetup setup(places("b"));
  EXPECT_THAT(setup.as_agent(places("b").agent_state(), SecretBytes(), kTime,
                             [](const HostSetup::Agent& agent) -> Result<void> {
                               const auto key = agent.keyring.find("default");
                               if (!key) return tl::unexpected(key.error());
                               std::vector<keyring::KeyVault::Plain> plain(1);
                               plain[0].key = *SecretBytes::random(32);
                               plain[0].context.purpose = keyring::Purpose::kEnvelopeData;
                               plain[0].context.key_bytes = 32;
                               const auto wrapped = agent.keyring.wrap(key->id, plain, admin());
                               if (wrapped.front()) return {};
                               return tl::unexpected(wrapped.front().error());
                             }),
              Succeeds());
}

TEST_F(SdfRestoreTest, ABackupWithoutTheFileOfTheDeviceSaysWhatItIsWorth) {
  ASSERT_NO_FATAL_FAILURE(make_sdf_host("a"));
  fs::rename(places("a").vault_state() + "/sdf-keys", dir_.path() / "elsewhere");
  const auto made = back_up("a");
  EXPECT_EQ(made.status, 3) << made.output;
  EXPECT_THAT(made.output, HasSubstr("this backup restores nothing"));
}

TEST_F(SdfRestoreTest, StateThatIsAnotherTokensIsNotReplaced) {
  ASSERT_NO_FATAL_FAILURE(make_sdf_host("a"));
  ASSERT_EQ(back_up("a").status, 0);
  ASSERT_NO_FATAL_FAILURE(configure("b"));
  fs::create_directories(places("b").vault_state());
  std::ofstream(places("b").vault_state() + "/sdf-keys") << "another";
  std::ofstream(typed()).close();
  const auto end = restore("b");
  EXPECT_EQ(end.status, 69) << end.output;
  EXPECT_THAT(end.output, HasSubstr("put it aside"));
  EXPECT_EQ(tests::read_text(places("b").vault_state() + "/sdf-keys"), "another");
  EXPECT_FALSE(fs::exists(places("b").agent_state()));
}

}  // namespace
}  // namespace coffer::hsm
