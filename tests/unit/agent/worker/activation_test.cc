// SPDX-License-Identifier: Apache-2.0
// What needs device-mapper: run by tests/system in the machine, skipped elsewhere.
#include <sys/mount.h>

#include <filesystem>

#include "agent/worker/dm_control.h"
#include "tests/support/loop_device.h"
#include "tests/unit/agent/worker/worker_fixture.h"

namespace coffer::agent {
namespace {

class ActivationTest : public WorkerFixture {
 protected:
  void SetUp() override {
    if (const auto control = DmControl::open(); !control) GTEST_SKIP() << control.error().str();
    loop_ = std::make_unique<tests::LoopDevice>(device("disk", 64));
    if (!loop_->valid()) GTEST_SKIP() << "no loop device to be had";
    name_ = "coffer-test-" + std::to_string(::getpid());
    made_ = build_on(loop_->path());
    ASSERT_THAT(made_.built, Succeeds());
    ASSERT_THAT(worker_->write_header(made_.ticket, 0, "", soon()), Succeeds());
    made_.scanned = scan_one(loop_->path());
    ASSERT_THAT(made_.scanned.header, Succeeds());
  }
  void TearDown() override {
    if (!loop_ || !loop_->valid()) return;
    static_cast<void>(
        worker_->deactivate(name_, volume(), DeactivateMode::kForce, soon()).has_value());
  }

  VolumeId volume() const { return VolumeId(made_.profile.uuid); }
  Result<Activated> activate(const SecretBytes& key, bool read_only = false) {
    ExpectedKey expected;
    expected.handle = made_.scanned.handle;
    expected.action = Action::kActivate;
    expected.mapping = name_;
    expected.profile = made_.profile;
    expected.read_only = read_only;
    return use_key(keyring::draw_ticket().value(), expected, key);
  }
  std::optional<Mapping> mapping() {
    const auto mappings = worker_->list_mappings(soon());
    EXPECT_THAT(mappings, Succeeds());
    for (const auto& one : *mappings)
      if (one.name == name_) return one;
    return std::nullopt;
  }
  // udev looks into the node after every change, and holds it open that long.
  bool goes_by_and_by() {
    const auto patience = soon();
    while (mapping() && !patience.passed()) std::this_thread::yield();
    return !mapping();
  }
  bool marked() const {
    const auto marks = external() ? sockets_ / "dm" : folder_.path();
    return std::filesystem::exists(marks / mapping_dm_uuid(volume(), name_));
  }

  std::unique_ptr<tests::LoopDevice> loop_;
  std::string name_;
  Made made_;
};

TEST_F(ActivationTest, VolumeOpensAndClosesAgain) {
  const auto opened = activate(made_.key);
  ASSERT_THAT(opened, Succeeds());
  EXPECT_GT(opened->usable_boot_usec, 0U);
  const auto found = mapping();
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->volume, volume());
  EXPECT_EQ(found->node, opened->node);
  EXPECT_EQ(found->state, MappingState::kActive);
  EXPECT_TRUE(found->marked);
  EXPECT_EQ(found->backing_major, made_.scanned.device.major);
  EXPECT_EQ(found->backing_minor, made_.scanned.device.minor);
  EXPECT_THAT(activate(made_.key), FailsWith(Reason::kAlreadyUnlocked));

  EXPECT_THAT(
      worker_->deactivate(name_, VolumeId(Uuid::random().value()), DeactivateMode::kPlain, soon()),
      FailsWith(Reason::kMappingForeign));
  EXPECT_THAT(worker_->deactivate(name_, volume(), DeactivateMode::kPlain, soon()), Succeeds());
  EXPECT_FALSE(mapping().has_value());
  EXPECT_FALSE(marked());
  EXPECT_THAT(worker_->deactivate(name_, volume(), DeactivateMode::kPlain, soon()),
              FailsWith(Reason::kNotUnlocked));
}

TEST_F(ActivationTest, WrongKeyLeavesNothing) {
  EXPECT_THAT(activate(SecretBytes::random(64).value()), FailsWith(Reason::kWrongKey));
  EXPECT_FALSE(mapping().has_value());
  EXPECT_FALSE(marked());
}

TEST_F(ActivationTest, HeaderChangedAfterTheCheckChangesNothing) {
  const UniqueFd disk(::open(loop_->path().c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_THAT(write_exactly_at(disk.get(), Bytes(128 << 10), 0), Succeeds());
  ASSERT_EQ(::fsync(disk.get()), 0);
  EXPECT_THAT(activate(made_.key), Succeeds());
}

TEST_F(ActivationTest, BusyVolumeStaysUnlessForced) {
  const auto opened = activate(made_.key);
  ASSERT_THAT(opened, Succeeds());
  UniqueFd user(::open(("/dev/" + opened->node).c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT));
  ASSERT_TRUE(user.valid());
  EXPECT_THAT(worker_->deactivate(name_, volume(), DeactivateMode::kPlain, soon()),
              FailsWith(Reason::kBusy));
  EXPECT_EQ(mapping()->state, MappingState::kActive);

  ASSERT_THAT(worker_->deactivate(name_, volume(), DeactivateMode::kForce, soon()), Succeeds());
  EXPECT_EQ(mapping()->state, MappingState::kErrorTarget);
  alignas(4096) std::array<std::byte, 4096> bytes{};
  EXPECT_EQ(::pread(user.get(), bytes.data(), bytes.size(), 0), -1);
  user.reset();
  EXPECT_TRUE(goes_by_and_by());
}

TEST_F(ActivationTest, DeferredVolumeGoesWithItsLastUser) {
  const auto opened = activate(made_.key);
  ASSERT_THAT(opened, Succeeds());
  UniqueFd user(::open(("/dev/" + opened->node).c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_THAT(worker_->deactivate(name_, volume(), DeactivateMode::kDeferred, soon()), Succeeds());
  EXPECT_TRUE(mapping()->deferred);
  EXPECT_EQ(mapping()->state, MappingState::kActive);
  user.reset();
  EXPECT_TRUE(goes_by_and_by());
}

TEST_F(ActivationTest, FileSystemIsMadeAndItsMountNamed) {
  ASSERT_THAT(activate(made_.key), Succeeds());
  ASSERT_THAT(worker_->make_file_system(name_, volume(), "ext4", "test", soon()), Succeeds());
  EXPECT_THAT(worker_->make_file_system(name_, volume(), "fat", "test", soon()),
              FailsWith(Reason::kUnsupported));
  const auto point = folder_.path() / "mount";
  std::filesystem::create_directory(point);
  const auto node = "/dev/" + mapping()->node;
  ASSERT_EQ(::mount(node.c_str(), point.c_str(), "ext4", 0, nullptr), 0);
  const auto busy = worker_->deactivate(name_, volume(), DeactivateMode::kPlain, soon());
  EXPECT_EQ(::umount2(point.c_str(), 0), 0);
  ASSERT_THAT(busy, FailsWith(Reason::kBusy));
  EXPECT_THAT(busy.error().message(), ::testing::HasSubstr("mounted on " + point.string()));
}

TEST_F(ActivationTest, MappingWithoutATableIsTakenAway) {
  // What a one-shot process leaves that is killed after its first ioctl.
  const auto create = "dmsetup create --notable " + name_ + " --uuid " +
                      mapping_dm_uuid(volume(), name_) + " >/dev/null 2>&1";
  if (std::system(create.c_str()) != 0) GTEST_SKIP() << "no dmsetup";  // NOLINT(*-env33-c)
  EXPECT_EQ(mapping()->state, MappingState::kNoTable);
  EXPECT_THAT(activate(made_.key), Succeeds());
  EXPECT_EQ(mapping()->state, MappingState::kActive);
}

TEST_F(ActivationTest, NameOfAnotherMappingIsNotTouched) {
  const auto create = "dmsetup create " + name_ + " --uuid FOREIGN-" + name_ +
                      " --table '0 8 error' >/dev/null 2>&1";
  if (std::system(create.c_str()) != 0) GTEST_SKIP() << "no dmsetup";  // NOLINT(*-env33-c)
  EXPECT_THAT(activate(made_.key), FailsWith(Reason::kMappingForeign));
  EXPECT_THAT(worker_->deactivate(name_, volume(), DeactivateMode::kForce, soon()),
              FailsWith(Reason::kMappingForeign));
  EXPECT_EQ(std::system(("dmsetup remove " + name_).c_str()), 0);  // NOLINT(*-env33-c)
}

TEST_F(ActivationTest, ReadOnlyVolumeIsReadOnly) {
  ASSERT_THAT(activate(made_.key, true), Succeeds());
  EXPECT_TRUE(mapping()->read_only);
}

TEST_F(ActivationTest, CipherThatTheKernelLacksIsRefused) {
  const Mappings mappings(folder_.path().string());
  const auto& device = made_.scanned.device;
  const auto below = std::to_string(device.major) + ":" + std::to_string(device.minor);
  EXPECT_THAT(mappings.probe({"aes-xts-plain64", 64, 4096, below}), Succeeds());
  EXPECT_THAT(mappings.probe({"nonsense-xts-plain64", 64, 4096, below}),
              FailsWith(Reason::kUnsupported));
  EXPECT_THAT(mappings.clean_probes(), Succeeds());
}

TEST_F(ActivationTest, OpenVolumeIsNotFormattedAgain) {
  ASSERT_THAT(activate(made_.key), Succeeds());
  const auto again = build_on(loop_->path());
  EXPECT_THAT(again.built, FailsWith(Reason::kBusy));
  EXPECT_THAT(worker_->write_header(again.ticket, 0, "", soon()),
              FailsWith(Reason::kTicketUnknown));
}

}  // namespace
}  // namespace coffer::agent
