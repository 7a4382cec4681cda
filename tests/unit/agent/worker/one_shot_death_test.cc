// SPDX-License-Identifier: Apache-2.0
// What becomes of a volume whose one-shot process hangs or dies. The process is a script, and
// device-mapper a fake; tests/system has both as they are.
#include <poll.h>
#include <sys/stat.h>

#include <array>
#include <csignal>

#include "tests/unit/agent/worker/fake_device_mapper.h"
#include "tests/unit/agent/worker/worker_fixture.h"

namespace coffer::agent {
namespace {

class OneShotDeathTest : public WorkerFixture {
 protected:
  OneShotDeathTest() {
    // The kernel must outlive the service, which asks it.
    device_mapper_ = [kernel = kernel_] { return kernel->open(); };
  }

  void SetUp() override {
    if (external()) GTEST_SKIP() << "the worker under test is another process";
    disk_ = device("disk");
    made_ = build_on(disk_);
    ASSERT_THAT(made_.built, Succeeds());
    ASSERT_THAT(worker_->write_header(made_.ticket, 0, "", soon()), Succeeds());

    // It tells its number, then does nothing until it is killed.
    const auto program = path("one-shot");
    ASSERT_EQ(::mkfifo(path("pid").c_str(), 0600), 0);
    // Open to write as well, so that neither end ever waits for the other to open it.
    told_.reset(::open(path("pid").c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    ASSERT_TRUE(told_.valid());
    std::ofstream(program) << "#!/bin/sh\necho $$ > " << path("pid") << "\nexec sleep 600\n";
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    restart_worker(program);
  }

  // Announces and delivers the key, and waits for the process that gets it.
  pid_t begin_unlock(Deadline deadline) {
    made_.scanned = scan_one(disk_);
    ExpectedKey expected;
    expected.handle = made_.scanned.handle;
    expected.mapping = "data";
    expected.profile = made_.profile;
    ticket_ = keyring::draw_ticket().value();
    EXPECT_THAT(worker_->expect(ticket_, std::span(&expected, 1), deadline), Succeeds());
    EXPECT_THAT(deliver(ticket_, 0, made_.profile, made_.key), Succeeds());
    return told_pid(deadline);
  }
  // What the process wrote; -1: nothing by `deadline`, for it may have been killed before.
  pid_t told_pid(Deadline deadline) const {
    std::string told;
    while (!told.ends_with('\n')) {
      pollfd waiting{told_.get(), POLLIN, 0};
      if (::poll(&waiting, 1, static_cast<int>(deadline.left().count())) <= 0) return -1;
      std::array<char, 32> bytes{};
      const auto got = ::read(told_.get(), bytes.data(), bytes.size());
      if (got <= 0) return -1;
      told.append(bytes.data(), static_cast<std::size_t>(got));
    }
    return std::stoi(told);
  }
  Result<Activated> end_of_unlock() {
    Result<Activated> end = fail(Reason::kInternal, "no outcome came");
    const auto waited = worker_->wait_results(
        ticket_, [&](KeyOutcome outcome) { end = std::move(outcome.result); }, soon());
    if (!waited) return tl::unexpected(waited.error());
    return end;
  }
  // Its process is killed when it has made `stands` of the mapping.
  Result<Activated> unlock_killed_at(const std::optional<FakeDeviceMapper::Device>& stands) {
    const auto pid = begin_unlock(soon());
    EXPECT_GT(pid, 0);
    if (stands) kernel_->put("data", *stands);
    if (pid > 0) ::kill(pid, SIGKILL);
    return end_of_unlock();
  }

  std::string dm_uuid() const { return mapping_dm_uuid(VolumeId(made_.profile.uuid), "data"); }
  bool marked() const { return std::filesystem::exists(path(dm_uuid())); }

  const std::shared_ptr<FakeDeviceMapper> kernel_ = std::make_shared<FakeDeviceMapper>();
  UniqueFd told_;
  std::string disk_;
  Made made_;
  keyring::Ticket ticket_{};
};

TEST_F(OneShotDeathTest, ProcessThatHangsIsEndedWithItsTicket) {
  // Long enough for a loaded machine to start the process.
  ASSERT_GT(begin_unlock(Deadline::after(std::chrono::seconds(10))), 0);
  kernel_->put("data", {dm_uuid(), false});
  EXPECT_THAT(end_of_unlock(), FailsWith(Reason::kTimedOut));
  EXPECT_FALSE(kernel_->has("data")) << "nothing is left behind";
  EXPECT_FALSE(marked());
}

TEST_F(OneShotDeathTest, KilledBeforeItsMappingIsUsableTheVolumeStaysLockedAndOpensNext) {
  const std::vector<std::optional<FakeDeviceMapper::Device>> stops{
      std::nullopt,                                    // Before it made anything,
      FakeDeviceMapper::Device{dm_uuid(), false, ""},  // before its table was live.
  };
  for (const auto& stands : stops) {
    EXPECT_THAT(unlock_killed_at(stands), FailsWith(Reason::kActivationFailed));
    EXPECT_FALSE(kernel_->has("data"));
    EXPECT_FALSE(marked());
  }
  const auto next = unlock_killed_at(FakeDeviceMapper::Device{dm_uuid(), true});
  EXPECT_THAT(next, Succeeds());
  EXPECT_TRUE(marked());
}

TEST_F(OneShotDeathTest, KilledAfterItsMappingIsUsableTheVolumeIsOpen) {
  const auto opened = unlock_killed_at(FakeDeviceMapper::Device{dm_uuid(), true});
  ASSERT_THAT(opened, Succeeds());
  EXPECT_EQ(opened->dm_uuid, dm_uuid());
  EXPECT_EQ(opened->settled_boot_usec, 0U) << "nobody saw udev's links";
  EXPECT_TRUE(marked());

  made_.scanned = scan_one(disk_);
  ExpectedKey expected;
  expected.handle = made_.scanned.handle;
  expected.mapping = "data";
  expected.profile = made_.profile;
  EXPECT_THAT(use_key(keyring::draw_ticket().value(), expected, made_.key),
              FailsWith(Reason::kAlreadyUnlocked));
}

TEST_F(OneShotDeathTest, WhatItLeftWhenTheWorkerDiedWithItIsNotInTheWay) {
  // Once taken away at the start of the next worker, and once by the next unlock itself.
  kernel_->put("data", {dm_uuid(), false});
  std::ofstream(path(dm_uuid())).flush();
  const auto cleaned = service_->clean_up();
  ASSERT_THAT(cleaned, Succeeds());
  EXPECT_EQ(cleaned->size(), 1U);
  EXPECT_FALSE(kernel_->has("data"));

  kernel_->put("data", {dm_uuid(), false});
  const auto pid = begin_unlock(soon());
  EXPECT_FALSE(kernel_->has("data")) << "gone before the process starts";
  kernel_->put("data", {dm_uuid(), true});
  ASSERT_GT(pid, 0);
  ::kill(pid, SIGKILL);
  EXPECT_THAT(end_of_unlock(), Succeeds());
}

}  // namespace
}  // namespace coffer::agent
