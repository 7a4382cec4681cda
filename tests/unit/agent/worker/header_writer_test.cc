// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/header_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "core/base/files.h"
#include "tests/support/result_matchers.h"

namespace coffer::agent {
namespace {

using tests::FailsWith;
using tests::Succeeds;

constexpr std::size_t kCopy = std::size_t{64} << 10U;
constexpr std::uint64_t kArea = std::uint64_t{2} << 20U;

class HeaderWriterTest : public ::testing::Test {
 protected:
  HeaderWriterTest() : header_(2 * kCopy), device_(make_memfd("device", 4U << 20U).value()) {
    // Two copies that differ, with zeros behind what each uses.
    for (std::size_t i = 0; i < 10'000; ++i) {
      header_[i] = static_cast<std::byte>(i % 251 + 1);
      header_[kCopy + i] = static_cast<std::byte>(i % 241 + 3);
    }
    print_ = print_header(header_).value();
  }

  Bytes read(std::size_t offset, std::size_t size) const {
    Bytes bytes(size);
    EXPECT_THAT(read_exactly_at(device_.get(), bytes, static_cast<off_t>(offset)), Succeeds());
    return bytes;
  }
  Bytes first_copy() const { return {header_.begin(), header_.begin() + kCopy}; }
  Bytes second_copy() const { return {header_.begin() + kCopy, header_.end()}; }
  // Ends the write after `last`, as a power cut would.
  AfterStep stop_after(WriteStep last) {
    return [last](WriteStep step) -> Result<void> {
      if (step == last) return fail(Reason::kCancelled, "cut");
      return {};
    };
  }

  Bytes header_;
  UniqueFd device_;
  HeaderPrint print_;
};

TEST_F(HeaderWriterTest, NothingOfAnOlderHeaderStays) {
  const Bytes old(kArea, std::byte{0xee});
  ASSERT_THAT(write_exactly_at(device_.get(), old, 0), Succeeds());
  ASSERT_THAT(write_new_header(device_.get(), {header_, kArea}), Succeeds());
  EXPECT_EQ(read(0, 2 * kCopy), header_);
  EXPECT_EQ(read(2 * kCopy, kArea - 2 * kCopy), Bytes(kArea - 2 * kCopy));
  EXPECT_EQ(find_printed(device_.get(), print_), HeaderPresence::kWhole);
}

TEST_F(HeaderWriterTest, WriteThatStopsBeforeItBeganLeavesNoHeader) {
  EXPECT_THAT(write_new_header(device_.get(), {header_, kArea}, stop_after(WriteStep::kCleared)),
              FailsWith(Reason::kCancelled));
  EXPECT_EQ(read(0, 2 * kCopy), Bytes(2 * kCopy));
  EXPECT_EQ(find_printed(device_.get(), print_), HeaderPresence::kNone);
}

TEST_F(HeaderWriterTest, SecondCopyIsDurableBeforeTheFirstBegins) {
  EXPECT_THAT(write_new_header(device_.get(), {header_, kArea}, stop_after(WriteStep::kSecondCopy)),
              FailsWith(Reason::kCancelled));
  EXPECT_EQ(read(0, kCopy), Bytes(kCopy));
  EXPECT_EQ(read(kCopy, kCopy), second_copy());
  EXPECT_EQ(find_printed(device_.get(), print_), HeaderPresence::kPartial);

  ASSERT_THAT(wipe_printed(device_.get(), print_), Succeeds());
  EXPECT_EQ(read(0, 2 * kCopy), Bytes(2 * kCopy));
}

TEST_F(HeaderWriterTest, WriteThatStopsAtItsEndIsWhole) {
  EXPECT_THAT(write_new_header(device_.get(), {header_, kArea}, stop_after(WriteStep::kFirstCopy)),
              FailsWith(Reason::kCancelled));
  EXPECT_EQ(read(0, kCopy), first_copy());
  EXPECT_EQ(find_printed(device_.get(), print_), HeaderPresence::kWhole);
}

TEST_F(HeaderWriterTest, TornCopyIsWipedAndStrangersStay) {
  ASSERT_THAT(write_new_header(device_.get(), {header_, kArea}), Succeeds());
  const Bytes strange(100, std::byte{0x42});
  ASSERT_THAT(write_exactly_at(device_.get(), strange, 4096), Succeeds());
  EXPECT_EQ(find_printed(device_.get(), print_), HeaderPresence::kPartial);
  const auto theirs = read(4096, 4096);
  ASSERT_THAT(wipe_printed(device_.get(), print_), Succeeds());
  EXPECT_EQ(read(0, 4096), Bytes(4096));
  EXPECT_EQ(read(4096, 4096), theirs);
  EXPECT_EQ(read(kCopy, kCopy), Bytes(kCopy));
}

TEST_F(HeaderWriterTest, WhatIsNoPrintIsRefused) {
  EXPECT_THAT(find_printed(device_.get(), Bytes(10)), FailsWith(Reason::kInvalidArgs));
  auto longer = print_;
  longer.push_back(std::byte{0});
  EXPECT_THAT(wipe_printed(device_.get(), longer), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(print_header(Bytes(100)), FailsWith(Reason::kInvalidArgs));
}

TEST_F(HeaderWriterTest, DeviceThatIsTooShortIsAnError) {
  const auto tiny = make_memfd("device", 8192).value();
  EXPECT_THAT(find_printed(tiny.get(), print_), FailsWith(Reason::kIoError));
}

}  // namespace
}  // namespace coffer::agent
