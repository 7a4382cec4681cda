// SPDX-License-Identifier: Apache-2.0
#include <libcryptsetup.h>
#include <sys/file.h>

#include "tests/unit/agent/worker/worker_fixture.h"

namespace coffer::agent {
namespace {

class ProvisioningTest : public WorkerFixture {};

TEST_F(ProvisioningTest, NewVolumeIsReadBackAndOpensWithItsKey) {
  const auto disk = device("disk");
  auto made = build_on(disk);
  ASSERT_THAT(made.built, Succeeds());
  EXPECT_EQ(made.built->header.profile, made.profile);
  EXPECT_EQ(made.built->header.subsystem, "coffer");
  ASSERT_THAT(worker_->write_header(made.ticket, 0, "", soon()), Succeeds());

  const auto again = scan_one(disk);
  ASSERT_THAT(again.header, Succeeds());
  EXPECT_EQ(again.header->profile, made.profile);
  EXPECT_EQ(again.header->copies, luks2::Copies::kBoth);
  EXPECT_EQ(again.header->label, "test volume");
  EXPECT_TRUE(again.header->token.has_value());
  EXPECT_FALSE(again.header->activation.has_value());
  EXPECT_EQ(again.header_sha256, made.built->header_sha256);
  EXPECT_THAT(verify(again, made.profile, made.key), Succeeds());
}

TEST_F(ProvisioningTest, ReferenceToolTakesTheNewVolume) {
  const auto disk = device("disk");
  auto made = build_on(disk);
  ASSERT_THAT(worker_->write_header(made.ticket, 0, "", soon()), Succeeds());

  crypt_device* device = nullptr;
  ASSERT_EQ(::crypt_init(&device, disk.c_str()), 0);
  const CHandle<crypt_device, ::crypt_free> owned(device);
  ASSERT_EQ(::crypt_load(device, CRYPT_LUKS2, nullptr), 0);
  EXPECT_STREQ(::crypt_get_uuid(device), made.profile.uuid.str().c_str());
  EXPECT_EQ(::crypt_get_data_offset(device) * 512, made.profile.data_offset_bytes);
  EXPECT_EQ(::crypt_get_sector_size(device), 4096);
  const auto* key = reinterpret_cast<const char*>(made.key.reveal().data());
  EXPECT_EQ(::crypt_volume_key_verify(device, key, made.key.size()), 0);
}

TEST_F(ProvisioningTest, DetachedHeaderLeavesTheDataDeviceToItsData) {
  const auto disk = device("disk");
  const auto header = device("header", 4);
  auto made = build_on(disk, header);
  ASSERT_THAT(made.built, Succeeds());
  const auto before = file_digest(disk);
  ASSERT_THAT(worker_->write_header(made.ticket, 0, "", soon()), Succeeds());
  EXPECT_EQ(file_digest(disk), before);

  const auto again = scan_one(disk, header);
  ASSERT_THAT(again.header, Succeeds());
  EXPECT_TRUE(again.header->profile->detached());
  EXPECT_THAT(verify(again, made.profile, made.key), Succeeds());
}

TEST_F(ProvisioningTest, HeaderIsNotWrittenOverAnotherDeviceThanWasScanned) {
  const auto disk = device("disk");
  const auto header = device("header", 4);
  for (const auto& changed : {header, disk}) {
    auto made = build_on(disk, header);
    ASSERT_THAT(made.built, Succeeds());
    std::filesystem::resize_file(changed, std::filesystem::file_size(changed) + 4096);
    const auto disk_before = file_digest(disk);
    const auto header_before = file_digest(header);
    EXPECT_THAT(worker_->write_header(made.ticket, 0, "", soon()),
                FailsWith(Reason::kDeviceChanged));
    EXPECT_EQ(file_digest(disk), disk_before);
    EXPECT_EQ(file_digest(header), header_before);
  }
}

TEST_F(ProvisioningTest, DeviceWithDataIsRefusedAndUntouched) {
  const auto disk = device("disk");
  write_at(disk, 0x438, "\x53\xef");
  const auto before = file_digest(disk);
  auto made = build_on(disk);
  ASSERT_THAT(made.built, Succeeds());

  EXPECT_THAT(worker_->write_header(made.ticket, 0, "", soon()), FailsWith(Reason::kForeignData));
  EXPECT_THAT(worker_->write_header(made.ticket, 0, "00", soon()),
              FailsWith(Reason::kConfirmMismatch));
  EXPECT_EQ(file_digest(disk), before);

  const auto seen = worker_->check_empty(made.scanned.handle, soon());
  ASSERT_THAT(seen, Succeeds());
  EXPECT_FALSE(seen->empty);
  EXPECT_THAT(seen->found, ::testing::HasSubstr("ext file system"));
  EXPECT_THAT(worker_->write_header(made.ticket, 0, seen->confirmation, soon()), Succeeds());
  EXPECT_THAT(scan_one(disk).header, Succeeds());
}

TEST_F(ProvisioningTest, ConfirmationOfOtherContentIsRefused) {
  const auto disk = device("disk");
  write_at(disk, 0, "old");
  auto made = build_on(disk);
  const auto seen = worker_->check_empty(made.scanned.handle, soon());
  ASSERT_THAT(seen, Succeeds());
  write_at(disk, 4, "new");
  const auto before = file_digest(disk);
  EXPECT_THAT(worker_->write_header(made.ticket, 0, seen->confirmation, soon()),
              FailsWith(Reason::kConfirmMismatch));
  EXPECT_EQ(file_digest(disk), before);
}

TEST_F(ProvisioningTest, DeviceWithDataAtItsEndIsNotEmpty) {
  const auto disk = device("disk");
  write_at(disk, (20U << 20U) - 512, "EFI PART");
  const auto seen = worker_->check_empty(scan_one(disk).handle, soon());
  ASSERT_THAT(seen, Succeeds());
  EXPECT_FALSE(seen->empty);
}

TEST_F(ProvisioningTest, DeviceWithoutRoomIsRefusedBeforeItsKeyIsMade) {
  const auto disk = device("disk", 16);
  ExpectedKey expected;
  expected.handle = scan_one(disk).handle;
  expected.action = Action::kFormat;
  expected.profile = new_volume_profile(Uuid::random().value(), false);
  EXPECT_THAT(worker_->expect(keyring::draw_ticket().value(), std::span(&expected, 1), soon()),
              FailsWith(Reason::kDeviceTooSmall));
}

TEST_F(ProvisioningTest, DeviceHeldByAnotherIsRefused) {
  const auto disk = device("disk");
  auto made = build_on(disk);
  const UniqueFd other(::open(disk.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  EXPECT_THAT(worker_->write_header(made.ticket, 0, "", soon()), FailsWith(Reason::kBusy));
}

TEST_F(ProvisioningTest, DeviceHeldByAnotherProvesNothing) {
  const auto disk = device("disk");
  auto made = build_on(disk);
  ASSERT_THAT(worker_->write_header(made.ticket, 0, "", soon()), Succeeds());
  const auto& print = made.built->print;
  UniqueFd other(::open(disk.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  EXPECT_THAT(worker_->check_written(made.scanned.handle, print, soon()), FailsWith(Reason::kBusy));
  other.reset();
  EXPECT_EQ(worker_->check_written(made.scanned.handle, print, soon()), HeaderPresence::kWhole);
}

TEST_F(ProvisioningTest, TokenThatNobodyCouldReadIsNotWritten) {
  const auto disk = device("disk");
  auto made = build_on(disk);
  EXPECT_THAT(worker_->build_header(made.ticket, 0, "", "{\"type\":\"other\"}", soon()),
              FailsWith(Reason::kTokenInvalid));
  EXPECT_THAT(worker_->build_header(made.ticket, 7, "", some_token(), soon()),
              FailsWith(Reason::kTicketUnknown));
}

TEST_F(ProvisioningTest, KeyIsForgottenOnceItsHeaderIsWritten) {
  auto made = build_on(device("disk"));
  ASSERT_THAT(worker_->write_header(made.ticket, 0, "", soon()), Succeeds());
  EXPECT_THAT(worker_->build_header(made.ticket, 0, "", some_token(), soon()),
              FailsWith(Reason::kTicketUnknown));
}

TEST_F(ProvisioningTest, WipeTakesOurHeaderAndNothingElse) {
  const auto disk = device("disk");
  const auto empty = file_digest(disk);
  auto made = build_on(disk);
  const auto& print = made.built->print;
  const auto handle = made.scanned.handle;
  EXPECT_EQ(worker_->check_written(handle, print, soon()), HeaderPresence::kNone);
  ASSERT_THAT(worker_->write_header(made.ticket, 0, "", soon()), Succeeds());
  EXPECT_EQ(worker_->check_written(handle, print, soon()), HeaderPresence::kWhole);
  EXPECT_EQ(worker_->wipe_header(handle, print, soon()), HeaderPresence::kWhole);
  EXPECT_EQ(file_digest(disk), empty);

  write_at(disk, 0, "somebody's data");
  const auto theirs = file_digest(disk);
  EXPECT_EQ(worker_->wipe_header(handle, print, soon()), HeaderPresence::kNone);
  EXPECT_EQ(file_digest(disk), theirs);
}

}  // namespace
}  // namespace coffer::agent
