// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/batch_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>
#include <fstream>
#include <numeric>

#include "agent/worker/open_device.h"
#include "tests/support/loop_device.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::agent {
namespace {

using tests::FailsWith;
using tests::Succeeds;

constexpr std::size_t kWhole = BatchReader::kReadBytesMax;

Deadline soon() {
  return Deadline::after(std::chrono::seconds(20));
}

std::string pattern(std::size_t size, std::size_t seed) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>((i / 512 + i + seed) & 0x7f);
  return bytes;
}

std::string file_of(const tests::TempDir& folder, const std::string& name,
                    const std::string& bytes) {
  const auto path = (folder.path() / name).string();
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

enum class Maker { kRing, kPread };

class BatchReaderTest : public ::testing::TestWithParam<Maker> {
 protected:
  void SetUp() override {
    if (GetParam() == Maker::kPread) {
      reader_ = make_pread_reader();
      return;
    }
    auto ring = make_ring_reader(8);
    if (!ring) GTEST_SKIP() << ring.error().str();
    reader_ = std::move(*ring);
  }

  // What each read gave, by index; every index once.
  std::map<std::size_t, Result<std::string>> read_all(const std::vector<BatchRead>& reads,
                                                      Deadline deadline = soon()) {
    std::map<std::size_t, Result<std::string>> results;
    reader_->read(
        reads,
        [&](std::size_t index, Result<ByteView> bytes) {
          EXPECT_FALSE(results.contains(index));
          results.emplace(index, bytes ? Result<std::string>(std::string(as_text(*bytes)))
                                       : Result<std::string>(tl::unexpected(bytes.error())));
        },
        deadline);
    EXPECT_EQ(results.size(), reads.size());
    return results;
  }

  tests::TempDir folder_;
  std::unique_ptr<BatchReader> reader_;
};

TEST_P(BatchReaderTest, EveryFileOfABatchIsRead) {
  std::vector<OpenDevice> devices;
  std::vector<BatchRead> reads;
  for (std::size_t i = 0; i < 40; ++i) {
    const auto path = file_of(folder_, std::to_string(i), pattern(kWhole, i));
    devices.push_back(open_device(path, FilesAllowed::kYes).value());
    reads.push_back({devices.back().fd.get(), 0, kWhole});
  }
  const auto results = read_all(reads);
  for (std::size_t i = 0; i < reads.size(); ++i) EXPECT_EQ(results.at(i), pattern(kWhole, i));
}

TEST_P(BatchReaderTest, ShortFileGivesWhatItHas) {
  const auto path = file_of(folder_, "short", pattern(70'000, 1));
  const auto empty = file_of(folder_, "empty", "");
  const UniqueFd one(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd two(::open(empty.c_str(), O_RDONLY | O_CLOEXEC));
  const auto results = read_all({{one.get(), 0, kWhole}, {two.get(), 0, kWhole}});
  EXPECT_EQ(results.at(0), pattern(70'000, 1));
  EXPECT_EQ(results.at(1), "");
}

TEST_P(BatchReaderTest, OneBadFileDoesNotSpoilTheOthers) {
  const auto path = file_of(folder_, "good", pattern(kWhole, 2));
  const UniqueFd good(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd bad(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  const auto results =
      read_all({{bad.get(), 0, kWhole}, {good.get(), 0, kWhole}, {good.get(), 0, kWhole + 1}});
  EXPECT_THAT(results.at(0), FailsWith(Reason::kIoError));
  EXPECT_EQ(results.at(1), pattern(kWhole, 2));
  EXPECT_THAT(results.at(2), FailsWith(Reason::kInvalidArgs));
}

TEST_P(BatchReaderTest, DeviceThatDoesNotAnswerEndsAtTheDeadline) {
  if (GetParam() == Maker::kPread) GTEST_SKIP() << "pread waits for the device";
  int ends[2] = {-1, -1};
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd silent(ends[0]);
  const UniqueFd writer(ends[1]);
  const auto path = file_of(folder_, "good", pattern(kWhole, 3));
  const UniqueFd good(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const std::vector<BatchRead> reads{{good.get(), 0, kWhole}, {silent.get(), 0, kWhole}};
  auto results = read_all(reads, Deadline::after(std::chrono::milliseconds(50)));
  EXPECT_THAT(results.at(1), FailsWith(Reason::kTimedOut));

  // The next batch is not held up by it, and a late answer does no harm.
  EXPECT_EQ(read_all({{good.get(), 0, kWhole}}).at(0), pattern(kWhole, 3));
  ASSERT_EQ(::write(writer.get(), "late", 4), 4);
  EXPECT_EQ(read_all({{good.get(), 0, kWhole}}).at(0), pattern(kWhole, 3));
}

// A device that never answers, until it is told to.
class SilentDevice {
 public:
  SilentDevice() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    reading_.reset(ends[0]);
    writing_.reset(ends[1]);
  }
  int fd() const { return reading_.get(); }
  void answer() const { EXPECT_EQ(::write(writing_.get(), "late", 4), 4); }

 private:
  UniqueFd reading_;
  UniqueFd writing_;
};

TEST_P(BatchReaderTest, DeviceThatStillDoesNotAnswerIsNotWaitedForAgain) {
  if (GetParam() == Maker::kPread) GTEST_SKIP() << "pread waits for the device";
  const SilentDevice silent;
  const auto path = file_of(folder_, "good", pattern(kWhole, 4));
  const UniqueFd good(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const std::vector<BatchRead> reads{{silent.fd(), 0, kWhole, 7}, {good.get(), 0, kWhole, 8}};
  EXPECT_THAT(read_all(reads, Deadline::after(std::chrono::milliseconds(50))).at(0),
              FailsWith(Reason::kTimedOut));

  const auto patience = Deadline::after(std::chrono::seconds(10));
  const auto again = read_all(reads);
  EXPECT_FALSE(patience.passed());
  EXPECT_THAT(again.at(0), FailsWith(Reason::kTimedOut));
  EXPECT_EQ(again.at(1), pattern(kWhole, 4));

  // Once it has answered, it is asked again. Each round answers to the hanging read and to ours.
  std::map<std::size_t, Result<std::string>> got = again;
  for (const auto wait = soon(); !got.at(0) && !wait.passed();) {
    silent.answer();
    silent.answer();
    got = read_all({{silent.fd(), 0, 4, 7}}, Deadline::after(std::chrono::milliseconds(50)));
  }
  EXPECT_EQ(got.at(0), "late");
}

TEST_P(BatchReaderTest, EachDeviceThatDoesNotAnswerCostsOneBuffer) {
  if (GetParam() == Maker::kPread) GTEST_SKIP() << "pread waits for the device";
  const auto path = file_of(folder_, "good", pattern(kWhole, 5));
  const UniqueFd good(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::deque<SilentDevice> silent;
  for (std::uint64_t device = 1; device <= 8; ++device) {
    EXPECT_EQ(read_all({{good.get(), 0, kWhole}}).at(0), pattern(kWhole, 5)) << device;
    const auto fd = silent.emplace_back().fd();
    EXPECT_THAT(
        read_all({{fd, 0, kWhole, device}}, Deadline::after(std::chrono::milliseconds(20))).at(0),
        FailsWith(Reason::kTimedOut));
  }
  EXPECT_THAT(read_all({{good.get(), 0, kWhole}}).at(0), FailsWith(Reason::kLimitsExceeded));

  silent.front().answer();
  auto got = read_all({{good.get(), 0, kWhole}});
  for (const auto wait = soon(); !got.at(0) && !wait.passed();)
    got = read_all({{good.get(), 0, kWhole}});
  EXPECT_EQ(got.at(0), pattern(kWhole, 5));
}

TEST_P(BatchReaderTest, LoopDevicesAreReadPastThePageCache) {
  std::deque<tests::LoopDevice> loops;
  std::vector<OpenDevice> devices;
  std::vector<BatchRead> reads;
  for (std::size_t i = 0; i < 3; ++i) {
    loops.emplace_back(file_of(folder_, std::to_string(i), pattern(std::size_t{1} << 20U, i)));
    if (!loops.back().valid()) GTEST_SKIP() << "no loop device to be had";
    auto device = open_device(loops.back().path(), FilesAllowed::kNo);
    ASSERT_THAT(device, Succeeds());
    EXPECT_NE(::fcntl(device->fd.get(), F_GETFL) & O_DIRECT, 0);
    devices.push_back(std::move(*device));
    reads.push_back({devices.back().fd.get(), 0, kWhole});
  }
  const auto results = read_all(reads);
  for (std::size_t i = 0; i < reads.size(); ++i) EXPECT_EQ(results.at(i), pattern(kWhole, i));
}

INSTANTIATE_TEST_SUITE_P(Makers, BatchReaderTest, ::testing::Values(Maker::kRing, Maker::kPread),
                         [](const auto& maker) {
                           return maker.param == Maker::kRing ? "IoUring" : "Pread";
                         });

}  // namespace
}  // namespace coffer::agent
