// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>

#include <set>

#include "core/base/clock.h"
#include "core/base/encoding.h"
#include "core/base/error_reasons.h"
#include "core/base/id.h"
#include "core/base/unique_fd.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

TEST(ReasonTable, HasOneRowPerReasonInOrderWithItsOwnName) {
  std::set<std::string_view> names;
  std::size_t number = 0;
  for (const auto& row : all_reasons()) {
    EXPECT_EQ(static_cast<std::size_t>(row.reason), number++);
    EXPECT_EQ(&reason_info(row.reason), &row);
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_FALSE(row.meaning.empty()) << row.name;
    EXPECT_TRUE(row.meaning.ends_with('.')) << row.name;
    EXPECT_EQ(reason_by_name(row.name), row.reason);
    EXPECT_EQ(reason_by_name(std::string(kDbusErrorPrefix) + std::string(row.name)), row.reason);
  }
  EXPECT_EQ(number, static_cast<std::size_t>(Reason::kInternal) + 1);
  EXPECT_EQ(reason_by_name("NoSuchReason"), std::nullopt);
  EXPECT_EQ(reason_by_name(""), std::nullopt);
}

TEST(ReasonTable, ExitStatusTellsRetryableFromFinal) {
  for (const auto& row : all_reasons()) {
    EXPECT_NE(row.exit_status, 0) << row.name;
    EXPECT_EQ(row.exit_status == 75, row.retryable == Retryable::kYes) << row.name;
  }
}

TEST(ErrorTest, MessagesGrowAtTheFrontAndTheReasonStays) {
  const Error first(Reason::kHsmBusy, "no session");
  const Error passed = pass(first, "wrap a key").value();
  EXPECT_EQ(passed.reason(), Reason::kHsmBusy);
  EXPECT_EQ(passed.str(), "HsmBusy: wrap a key: no session");
  const Error both = with_leftover(passed, Error(Reason::kIoError, "cannot remove it"));
  EXPECT_EQ(both.reason(), Reason::kHsmBusy);
  EXPECT_THAT(both.message(), testing::HasSubstr("cannot remove it"));
}

TEST(ErrorTest, SystemErrorsGetTheReasonThatHelps) {
  const auto reason = [](int number) { return fail_errno(number, "step").value().reason(); };
  EXPECT_EQ(reason(EACCES), Reason::kAccessDenied);
  EXPECT_EQ(reason(EPERM), Reason::kAccessDenied);
  EXPECT_EQ(reason(ENOENT), Reason::kNoSuchFile);
  EXPECT_EQ(reason(ENOMEM), Reason::kNoMemory);
  EXPECT_EQ(reason(EIO), Reason::kIoError);
  EXPECT_EQ(fail_errno(EIO, "step", Reason::kWorkerLost).value().reason(), Reason::kWorkerLost);
}

TEST(UuidTest, HasOneSpelling) {
  const std::string text = "0f0e0d0c-0b0a-4908-8706-050403020100";
  const auto uuid = Uuid::parse(text);
  ASSERT_THAT(uuid, Succeeds());
  EXPECT_EQ(uuid->str(), text);
  EXPECT_EQ(Uuid::from_bytes(uuid->bytes()).value(), *uuid);
  for (const char* wrong :
       {"", "0F0e0d0c-0b0a-4908-8706-050403020100", "{0f0e0d0c-0b0a-4908-8706-0504030201}",
        "0f0e0d0c0b0a-4908-8706-050403020100-", "0f0e0d0c-0b0a-4908-8706-05040302010g",
        "0f0e0d0c-0b0a-4908-8706-0504030201000", "-f0e0d0c-0b0a-4908-8706-050403020100"}) {
    EXPECT_THAT(Uuid::parse(wrong), FailsWith(Reason::kInvalidArgs)) << wrong;
  }
  EXPECT_THAT(Uuid::from_bytes(Bytes(15)), FailsWith(Reason::kInvalidArgs));
}

TEST(UuidTest, RandomOnesAreVersion4AndDiffer) {
  const auto one = VolumeId::random();
  const auto other = VolumeId::random();
  ASSERT_THAT(one, Succeeds());
  EXPECT_NE(*one, *other);
  EXPECT_EQ(one->str()[14], '4');
  EXPECT_THAT(std::string("89ab"), testing::HasSubstr(one->str().substr(19, 1)));
  static_assert(!std::is_convertible_v<VolumeId, CmkId>);
}

TEST(UuidTest, MadeAtATimeTheyAreVersion7AndInItsOrder) {
  // The time of RFC 9562 appendix A.6; 500 us later half of a millisecond's 4096 parts are over.
  const auto at = wall_from_usec(1645557742000000);
  const auto one = CmkId::made_at(at);
  ASSERT_THAT(one, Succeeds());
  EXPECT_THAT(one->str(), testing::StartsWith("017f22e2-79b0-7000-"));
  EXPECT_THAT(std::string("89ab"), testing::HasSubstr(one->str().substr(19, 1)));
  const auto half = CmkId::made_at(at + std::chrono::microseconds(500));
  EXPECT_THAT(half->str(), testing::StartsWith("017f22e2-79b0-7800-"));
  EXPECT_NE(*one, *CmkId::made_at(at));
  for (int usec = 1; usec < 2000; ++usec) {
    const auto earlier = CmkId::made_at(at + std::chrono::microseconds(usec - 1));
    EXPECT_LT(*earlier, *CmkId::made_at(at + std::chrono::microseconds(usec))) << usec;
  }
  const auto before = CmkId::made_at(WallTime(std::chrono::microseconds(-1)));
  const auto after = CmkId::made_at(wall_from_usec((std::uint64_t{1} << 48) * 1000));
  EXPECT_EQ(before->str()[14], '4');
  EXPECT_EQ(after->str()[14], '4');
}

TEST(HexTest, GoesBothWaysInLowerCaseAlone) {
  EXPECT_EQ(to_hex(as_bytes("\x01\xAB")), "01ab");
  EXPECT_EQ(as_text(from_hex("01ab").value()), "\x01\xAB");
  EXPECT_EQ(from_hex(""), Bytes());
  for (const char* wrong : {"0", "0A", "0g", "0x", " 1"}) EXPECT_EQ(from_hex(wrong), std::nullopt);
}

TEST(Base64Test, GivesThePublishedValues) {
  // RFC 4648 section 10.
  const std::vector<std::pair<std::string_view, std::string_view>> pairs{{"", ""},
                                                                         {"f", "Zg=="},
                                                                         {"fo", "Zm8="},
                                                                         {"foo", "Zm9v"},
                                                                         {"foob", "Zm9vYg=="},
                                                                         {"fooba", "Zm9vYmE="},
                                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, encoded] : pairs) {
    EXPECT_EQ(to_base64(as_bytes(plain)), encoded);
    ASSERT_TRUE(from_base64(encoded).has_value()) << encoded;
    EXPECT_EQ(as_text(*from_base64(encoded)), plain);
  }
}

TEST(Base64Test, RefusesEveryOtherSpelling) {
  for (const char* wrong : {"Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==",
                            "Zm 9v", "Zm9v\n", "Zm9-", "=Zg="}) {
    EXPECT_EQ(from_base64(wrong), std::nullopt) << wrong;
  }
}

class HandClock final : public Clock {
 public:
  WallTime wall() const override { return {}; }
  SteadyTime steady() const override { return now; }
  std::chrono::microseconds since_boot() const override { return {}; }
  SteadyTime now;
};

TEST(DeadlineTest, CountsDownToZeroAndNoFurther) {
  HandClock clock;
  const auto deadline = Deadline::after(std::chrono::milliseconds(10), clock);
  EXPECT_EQ(deadline.left(clock).count(), 10);
  clock.now += std::chrono::microseconds(9500);
  EXPECT_EQ(deadline.left(clock).count(), 1);  // Rounded up: a wait of zero would be a spin.
  EXPECT_FALSE(deadline.passed(clock));
  clock.now += std::chrono::milliseconds(1);
  EXPECT_TRUE(deadline.passed(clock));
  EXPECT_EQ(deadline.left(clock).count(), 0);
}

TEST(ClockTest, GoesForward) {
  const auto& clock = system_clock();
  const SteadyTime before = clock.steady();
  EXPECT_LE(before, clock.steady());
  EXPECT_GT(clock.since_boot().count(), 0);
  EXPECT_EQ(wall_from_usec(usec(WallTime(std::chrono::microseconds(7)))).time_since_epoch().count(),
            7);
}

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

TEST(UniqueFdTest, ClosesWhatItOwnsOnce) {
  const int first = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  UniqueFd owner(first);
  UniqueFd next(std::move(owner));
  EXPECT_EQ(next.get(), first);
  EXPECT_TRUE(is_open(first));
  const int second = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  next = UniqueFd(second);
  EXPECT_FALSE(is_open(first));
  EXPECT_EQ(next.release(), second);
  EXPECT_FALSE(next.valid());
  EXPECT_TRUE(is_open(second));
  next.reset(second);
  next.reset();
  EXPECT_FALSE(is_open(second));
}

}  // namespace
}  // namespace coffer::tests
