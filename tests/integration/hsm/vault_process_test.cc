// SPDX-License-Identifier: Apache-2.0
// A vault process when its token, its module or itself fails, and what stays in its memory.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <map>
#include <thread>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/support/fault_script_file.h"
#include "tests/support/memory_scan.h"
#include "tests/support/result_matchers.h"
#include "tests/support/vault_process.h"

namespace coffer::tests {
namespace {

using keyring::VaultState;
using std::chrono::milliseconds;

constexpr std::string_view kLabel = "process";

struct Shared {
  Shared() : script(folder.path()) {
    if (!folder.make_token(softhsm_module_path(), kLabel)) std::abort();
  }
  SoftHsmFolder folder;
  FaultScriptFile script;
};
Shared& shared() {
  static Shared shared;
  return shared;
}

// The sink of a test that must not keep what it is given in the clear.
class MaskingSink final : public keyring::DekSink {
 public:
  Result<void> deliver(const keyring::Ticket&, std::uint32_t, const keyring::DekLabel&,
                       const SecretBytes& dek, Deadline) override {
    const std::scoped_lock lock(mutex_);
    needles_.emplace_back("DEK", dek.reveal());
    return {};
  }
  std::vector<Needle> needles() const {
    const std::scoped_lock lock(mutex_);
    return needles_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Needle> needles_;
};

Deadline soon() {
  return Deadline::after(std::chrono::seconds(30));
}

keyring::KeyContext volume_context() {
  keyring::KeyContext context;
  context.volume = *VolumeId::random();
  context.cipher = "aes-xts-plain64";
  context.key_bytes = 64;
  context.generation = 1;
  return context;
}

class VaultProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    if (softhsm_module_path().empty()) GTEST_SKIP() << "SoftHSM is not installed";
    shared().script.clear();
  }

  void start(milliseconds call_deadline = milliseconds(5000)) {
    worker_ = std::make_unique<DeliverySocket>(shared().folder.path(), sink_);
    VaultProcess::Options options;
    options.folder = &shared().folder;
    options.label = kLabel;
    options.module_path = fault_module_path();
    options.deliver_socket = worker_->path();
    options.call_deadline = call_deadline;
    options.call_timeout = milliseconds(4500);
    auto started = VaultProcess::start(options);
    ASSERT_THAT(started, Succeeds());
    process_ = std::move(*started);
  }

  keyring::KeyVault& vault() { return process_->client(); }

  Bytes make_record() {
    auto record = vault().create_cmk({.alias = "default", .description = "", .id = {}});
    EXPECT_THAT(record, Succeeds());
    return record ? *record : Bytes();
  }
  Result<keyring::WrappedKey> make_dek(ByteView record, const keyring::KeyContext& context) {
    return vault().make_deks(record, {&context, 1}, keyring::Ticket{}, 0, soon()).at(0);
  }
  Result<void> deliver(ByteView record, const keyring::Presented& presented) {
    const std::uint32_t index = 0;
    return vault().deliver(record, {&presented, 1}, keyring::Ticket{}, {&index, 1}, soon()).at(0);
  }

  MaskingSink sink_;
  std::unique_ptr<DeliverySocket> worker_;
  std::unique_ptr<VaultProcess> process_;
};

TEST_F(VaultProcessTest, HangingCallEndsTheProcessAndTheNextOneWorks) {
  start(milliseconds(300));
  const auto record = make_record();
  const auto context = volume_context();
  const auto dek = make_dek(record, context);
  ASSERT_THAT(dek, Succeeds());

  shared().script.set("C_Decrypt hang\n");
  EXPECT_THAT(deliver(record, {*dek, context}), FailsWith(Reason::kHsmAbsent));
  const int status = process_->wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 75) << status;
  EXPECT_EQ(vault().health().state, VaultState::kAbsent);

  shared().script.clear();
  ASSERT_THAT(process_->start_again(), Succeeds());
  EXPECT_THAT(deliver(record, {*dek, context}), Succeeds());
}

TEST_F(VaultProcessTest, SlowTokenIsATimeoutForTheCallerAndGoesOn) {
  start(milliseconds(60000));
  const auto record = make_record();
  // Every call: the vault's own probe may come first.
  shared().script.set("C_Encrypt delay 5500\n");
  EXPECT_THAT(make_dek(record, volume_context()), FailsWith(Reason::kHsmTimeout));
  shared().script.clear();
  EXPECT_THAT(make_dek(record, volume_context()), Succeeds());
}

TEST_F(VaultProcessTest, CrashingModuleIsAnAbsentTokenUntilTheProcessIsBack) {
  start();
  const auto record = make_record();
  const auto context = volume_context();
  const auto dek = make_dek(record, context);
  ASSERT_THAT(dek, Succeeds());

  shared().script.set("C_DecryptInit crash\n");
  EXPECT_THAT(deliver(record, {*dek, context}), FailsWith(Reason::kHsmAbsent));
  const int status = process_->wait();
  EXPECT_TRUE(WIFSIGNALED(status)) << status;
  shared().script.clear();
  ASSERT_THAT(process_->start_again(), Succeeds());
  EXPECT_THAT(deliver(record, {*dek, context}), Succeeds());
  EXPECT_EQ(vault().health().state, VaultState::kUp);
}

TEST_F(VaultProcessTest, StartsWithoutATokenAndUsesItWhenItComes) {
  shared().script.set("removed\n");
  start();
  EXPECT_EQ(vault().health().state, VaultState::kAbsent);
  EXPECT_THAT(vault().random(16), FailsWith(Reason::kHsmAbsent));
  shared().script.clear();
  EXPECT_EQ(vault().health().state, VaultState::kUp);
  EXPECT_THAT(vault().random(16), Succeeds());
}

// SoftHSM writes its token anew at each login, and a power cut then may leave it empty.
TEST_F(VaultProcessTest, NothingIsEverWrittenToTheTokenItself) {
  const auto tokens = shared().folder.path() / "tokens";
  const auto snapshot = [&] {
    std::map<std::string, std::pair<Bytes, std::filesystem::file_time_type>> all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(tokens)) {
      if (entry.is_regular_file())
        all[entry.path().string()] = {*read_file(entry.path().string(), 1 << 20),
                                      entry.last_write_time()};
    }
    return all;
  };
  const auto before = snapshot();
  ASSERT_FALSE(before.empty());
  for (int i = 0; i < 2; ++i) {
    start();
    EXPECT_EQ(vault().health().state, VaultState::kUp);
    make_record();
    EXPECT_THAT(vault().random(16), Succeeds());
    process_->send_signal(SIGKILL);
    process_->wait();
  }
  EXPECT_EQ(snapshot(), before);
}

TEST_F(VaultProcessTest, KilledDuringALoginWithAWrongPinItDoesNotTryThatPinAgain) {
  const auto pin = read_file(shared().folder.pin_file(kLabel), 256);
  shared().script.set("pin-tries 5\nC_Login crash-after\n");
  shared().script.set_pin_tries_left(5);
  ASSERT_THAT(shared().folder.write_pin(kLabel, "not-the-pin"), Succeeds());
  start();
  EXPECT_TRUE(WIFSIGNALED(process_->wait()));
  shared().script.set("pin-tries 5\n");
  const auto before = shared().script.logged("login bad");
  for (int i = 0; i < 3; ++i) {
    ASSERT_THAT(process_->start_again(), Succeeds());
    EXPECT_EQ(vault().health().state, VaultState::kPinRefused);
    process_->send_signal(SIGKILL);
    process_->wait();
  }
  EXPECT_EQ(shared().script.logged("login bad"), before);

  ASSERT_THAT(shared().folder.write_pin(kLabel, as_text(*pin)), Succeeds());
  ASSERT_THAT(process_->start_again(), Succeeds());
  EXPECT_EQ(vault().health().state, VaultState::kUp);
}

TEST_F(VaultProcessTest, EndsInOrderWhenTold) {
  start();
  EXPECT_EQ(vault().health().state, VaultState::kUp);
  process_->send_signal(SIGTERM);
  const int status = process_->wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST_F(VaultProcessTest, WorkerThatWasStartedAnewGetsTheNextKey) {
  start();
  const auto record = make_record();
  ASSERT_THAT(make_dek(record, volume_context()), Succeeds());
  worker_->drop_connections();
  EXPECT_THAT(make_dek(record, volume_context()), Succeeds());
}

TEST_F(VaultProcessTest, NeitherDekNorPinStaysInItsMemory) {
  start();
  const auto record = make_record();
  std::vector<keyring::Presented> presented;
  for (int i = 0; i < 20; ++i) {
    const auto context = volume_context();
    const auto dek = make_dek(record, context);
    ASSERT_THAT(dek, Succeeds());
    presented.push_back({*dek, context});
  }
  for (const auto& one : presented) ASSERT_THAT(deliver(record, one), Succeeds());

  auto needles = sink_.needles();
  ASSERT_EQ(needles.size(), 40U);
  {
    const auto pin = read_secret_file(shared().folder.pin_file(kLabel), 256);
    needles.emplace_back("PIN", pin->reveal());
  }
  // Within a second of the last answer.
  std::vector<Hit> hits;
  const auto deadline = Deadline::after(milliseconds(1000));
  do {
    const auto scanned = scan_process(process_->pid(), needles);
    ASSERT_THAT(scanned, Succeeds());
    hits = *scanned;
  } while (!hits.empty() && !deadline.passed());
  EXPECT_TRUE(hits.empty()) << describe(hits);
}

// The scanner itself: a process that keeps a secret is caught, one that wiped it is not.
TEST(MemoryScanTest, FindsAPlantedLeakAndNothingWhereItWasWiped) {
  for (const bool wiped : {false, true}) {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    auto secret = *SecretBytes::random(64);
    const std::vector<Needle> needles{Needle("planted", secret.reveal())};
    // The child knows the secret masked and unmasks one window of it byte by byte: a copy of it as
    // a whole would pass through vector registers, which the dynamic linker may spill to the stack.
    const Bytes masked = needles[0].masked_windows()[20];
    std::array<volatile unsigned char, Needle::kWindowBytes> part{};
    const pid_t child = ::fork();
    if (child == 0) {
      for (std::size_t i = 0; i < part.size(); ++i)
        part[i] = std::to_integer<unsigned char>(masked[i] ^ Needle::kMask);
      for (std::size_t i = 0; wiped && i < part.size(); ++i) part[i] = 0;
      ::close(ready[1]);
      for (;;) ::pause();
    }
    ::close(ready[1]);
    char end = 0;
    EXPECT_EQ(::read(ready[0], &end, 1), 0);
    ::close(ready[0]);
    const auto hits = scan_process(child, needles);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ASSERT_THAT(hits, Succeeds());
    EXPECT_EQ(hits->empty(), wiped) << describe(*hits);
  }
}

}  // namespace
}  // namespace coffer::tests
