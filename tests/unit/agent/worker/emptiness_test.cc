// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/emptiness.h"

#include <gtest/gtest.h>

#include "tests/unit/agent/worker/worker_fixture.h"

namespace coffer::agent {
namespace {

class EmptinessTest : public ::testing::Test {
 protected:
  HeldDevice held(const std::string& path) {
    HeldDevice device;
    device.device = open_device(path, FilesAllowed::kYes).value();
    return device;
  }
  std::string file(const std::string& name, std::uint64_t size_bytes = 4U << 20U) {
    return make_device(folder_.path() / name, size_bytes);
  }
  tests::TempDir folder_;
};

TEST_F(EmptinessTest, ZerosAtBothEndsAreEmpty) {
  const auto path = file("disk");
  write_at(path, 2U << 20U, "data in the middle does not count");
  const auto seen = look_for_data(held(path));
  ASSERT_THAT(seen, Succeeds());
  EXPECT_TRUE(seen->empty);
  EXPECT_EQ(seen->confirmation.size(), 32U) << "a device without identity needs one all the same";
  EXPECT_THAT(require_empty_or_confirmed(*seen, ""), Succeeds());
}

TEST_F(EmptinessTest, EveryByteOfBothEndsCounts) {
  for (const std::uint64_t offset : {0U, (1U << 20U) - 1, 3U << 20U, (4U << 20U) - 1}) {
    const auto path = file("disk" + std::to_string(offset));
    write_at(path, offset, "x");
    const auto seen = look_for_data(held(path));
    ASSERT_THAT(seen, Succeeds());
    EXPECT_FALSE(seen->empty) << offset;
    EXPECT_EQ(seen->confirmation.size(), 32U);
  }
}

TEST_F(EmptinessTest, ConfirmationFitsOneDeviceAndOneContent) {
  const auto one = file("one");
  const auto two = file("two");
  write_at(one, 0, "same");
  write_at(two, 0, "same");
  const auto first = look_for_data(held(one)).value();
  EXPECT_EQ(look_for_data(held(one))->confirmation, first.confirmation);
  EXPECT_NE(look_for_data(held(two))->confirmation, first.confirmation);
  write_at(one, 4, "more");
  const auto later = look_for_data(held(one)).value();
  EXPECT_NE(later.confirmation, first.confirmation);

  EXPECT_THAT(require_empty_or_confirmed(later, later.confirmation), Succeeds());
  EXPECT_THAT(require_empty_or_confirmed(later, first.confirmation),
              FailsWith(Reason::kConfirmMismatch));
  const auto refused = require_empty_or_confirmed(later, "");
  ASSERT_THAT(refused, FailsWith(Reason::kForeignData));
  EXPECT_THAT(refused.error().message(), ::testing::HasSubstr(later.confirmation));
}

TEST_F(EmptinessTest, HeaderDeviceCountsToo) {
  auto device = held(file("disk"));
  const auto header = file("header");
  write_at(header, 0, "XFSB");
  device.header_device = open_device(header, FilesAllowed::kYes).value();
  const auto seen = look_for_data(device);
  ASSERT_THAT(seen, Succeeds());
  EXPECT_FALSE(seen->empty);
  EXPECT_THAT(seen->found, ::testing::HasSubstr("XFS file system on"));
}

TEST_F(EmptinessTest, KnownContentIsNamed) {
  const Bytes none(4096);
  auto bytes = none;
  std::ranges::copy(as_bytes("EFI PART"), bytes.begin() + 0x200);
  EXPECT_EQ(name_content(bytes, none), "GPT partition table");
  EXPECT_EQ(name_content(none, bytes), "data at its end");
  EXPECT_EQ(name_content(as_bytes("?"), none), "data of an unknown kind");
}

TEST_F(EmptinessTest, DeviceShorterThanAMebibyteIsReadWhole) {
  const auto path = file("tiny", 8192);
  EXPECT_TRUE(look_for_data(held(path))->empty);
  write_at(path, 8000, "x");
  EXPECT_FALSE(look_for_data(held(path))->empty);
}

}  // namespace
}  // namespace coffer::agent
