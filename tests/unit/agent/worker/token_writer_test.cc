// SPDX-License-Identifier: Apache-2.0
// Exchanging the token of a header that stands, by the program itself, over files.
#include "agent/worker/token_writer.h"

#include <libcryptsetup.h>
#include <sys/file.h>

#include <tuple>

#include "agent/worker/header_lock.h"
#include "core/luks2/header.h"
#include "tests/unit/agent/worker/worker_fixture.h"

namespace coffer::agent {
namespace {

constexpr std::uint64_t kCopyBytes = std::uint64_t{64} << 10U;

// some_token() with other wraps and records: what a rewrap makes of it.
luks2::Token other_token() {
  auto token = luks2::parse_token(some_token()).value();
  token.wraps = {Bytes(80, std::byte{7})};
  token.records = {Bytes(300, std::byte{8})};
  return token;
}
std::string other_json() {
  return luks2::print_token(other_token()).value();
}

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string all(std::filesystem::file_size(path), '\0');
  in.read(all.data(), static_cast<std::streamsize>(all.size()));
  return all;
}

class TokenWriterTest : public WorkerFixture {
 protected:
  void SetUp() override {
    if (external()) GTEST_SKIP() << "needs a worker that takes files";
  }

  // A volume whose header stands on `disk`, or on `header`.
  Made volume_on(const std::string& disk, const std::string& header = "") {
    auto made = build_on(disk, header);
    EXPECT_THAT(made.built, Succeeds());
    EXPECT_THAT(worker_->write_header(made.ticket, 0, "", soon()), Succeeds());
    return made;
  }

  // The device as the service would hold it, for what is to be stopped in the middle.
  static HeldDevice hold(const std::string& disk) {
    HeldDevice held;
    held.device = open_device(disk, FilesAllowed::kYes).value();
    Bytes bytes(luks2::kReaderBytes);
    const UniqueFd fd(::open(disk.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(read_exactly_at(fd.get(), bytes, 0));
    held.image = HeaderImage(bytes);
    held.header =
        luks2::as_result(luks2::check_header(bytes, std::filesystem::file_size(disk))).value();
    return held;
  }
};

TEST_F(TokenWriterTest, WrapsAndRecordsAreExchangedAndNothingElse) {
  const auto disk = device("disk");
  const auto made = volume_on(disk);
  const auto before = scan_one(disk);
  const auto bytes_before = bytes_of(disk);
  ASSERT_THAT(worker_->replace_token(before.handle, other_json(), soon()), Succeeds());

  const auto after = scan_one(disk);
  ASSERT_THAT(after.header, Succeeds());
  EXPECT_EQ(after.header->token, other_token());
  EXPECT_EQ(after.header->copies, luks2::Copies::kBoth);
  EXPECT_EQ(after.header->epoch, before.header->epoch + 1);
  EXPECT_THAT(require_only_token_changed(*before.header, *after.header, other_token()), Succeeds());
  EXPECT_THAT(verify(after, made.profile, made.key), Succeeds());
  // Behind the copies no byte is another one.
  EXPECT_EQ(bytes_of(disk).substr(2 * kCopyBytes), bytes_before.substr(2 * kCopyBytes));
}

TEST_F(TokenWriterTest, ReferenceToolReadsTheNewHeader) {
  const auto disk = device("disk");
  const auto made = volume_on(disk);
  ASSERT_THAT(worker_->replace_token(scan_one(disk).handle, other_json(), soon()), Succeeds());

  crypt_device* raw = nullptr;
  ASSERT_EQ(::crypt_init(&raw, disk.c_str()), 0);
  const CHandle<crypt_device, ::crypt_free> owned(raw);
  ASSERT_EQ(::crypt_load(raw, CRYPT_LUKS2, nullptr), 0);
  const auto* key = reinterpret_cast<const char*>(made.key.reveal().data());
  EXPECT_EQ(::crypt_volume_key_verify(raw, key, made.key.size()), 0);
  const char* json = nullptr;
  ASSERT_EQ(::crypt_token_json_get(raw, 0, &json), 0);
  EXPECT_EQ(luks2::parse_token(json).value(), other_token());
}

TEST_F(TokenWriterTest, DetachedHeaderIsExchangedAndTheDataLeftAlone) {
  const auto disk = device("disk");
  const auto header = device("header", 4);
  const auto made = volume_on(disk, header);
  const auto data_before = file_digest(disk);
  ASSERT_THAT(worker_->replace_token(scan_one(disk, header).handle, other_json(), soon()),
              Succeeds());
  EXPECT_EQ(file_digest(disk), data_before);
  const auto after = scan_one(disk, header);
  EXPECT_EQ(after.header->token, other_token());
  EXPECT_THAT(verify(after, made.profile, made.key), Succeeds());
}

TEST_F(TokenWriterTest, ForeignTokensAndKeyslotsStay) {
  const auto disk = device("disk");
  const auto made = volume_on(disk);
  {
    crypt_device* raw = nullptr;
    ASSERT_EQ(::crypt_init(&raw, disk.c_str()), 0);
    const CHandle<crypt_device, ::crypt_free> owned(raw);
    ASSERT_EQ(::crypt_load(raw, CRYPT_LUKS2, nullptr), 0);
    crypt_pbkdf_type pbkdf{};
    pbkdf.type = CRYPT_KDF_PBKDF2;
    pbkdf.hash = "sha256";
    pbkdf.iterations = 1000;
    pbkdf.flags = CRYPT_PBKDF_NO_BENCHMARK;
    ASSERT_EQ(::crypt_set_pbkdf_type(raw, &pbkdf), 0);
    const auto* key = reinterpret_cast<const char*>(made.key.reveal().data());
    ASSERT_EQ(::crypt_keyslot_add_by_volume_key(raw, 3, key, made.key.size(), "words", 5), 3);
    ASSERT_EQ(::crypt_token_json_set(raw, 5,
                                     R"({"type":"other","keyslots":["3"],"note":"left as it is"})"),
              5);
  }
  const auto bytes_before = bytes_of(disk);
  ASSERT_THAT(worker_->replace_token(scan_one(disk).handle, other_json(), soon()), Succeeds());

  crypt_device* raw = nullptr;
  ASSERT_EQ(::crypt_init(&raw, disk.c_str()), 0);
  const CHandle<crypt_device, ::crypt_free> owned(raw);
  ASSERT_EQ(::crypt_load(raw, CRYPT_LUKS2, nullptr), 0);
  const char* json = nullptr;
  ASSERT_EQ(::crypt_token_json_get(raw, 5, &json), 5);
  EXPECT_NE(std::string(json).find("left as it is"), std::string::npos);
  EXPECT_EQ(::crypt_activate_by_passphrase(raw, nullptr, 3, "words", 5, 0), 3);
  EXPECT_EQ(bytes_of(disk).substr(2 * kCopyBytes), bytes_before.substr(2 * kCopyBytes));
}

TEST_F(TokenWriterTest, HeaderThatChangedSinceItWasScannedIsLeftAlone) {
  const auto disk = device("disk");
  volume_on(disk);
  const auto scanned = scan_one(disk);
  ASSERT_THAT(worker_->replace_token(scan_one(disk).handle, other_json(), soon()), Succeeds());
  const auto before = file_digest(disk);
  EXPECT_THAT(worker_->replace_token(scanned.handle, some_token(), soon()),
              FailsWith(Reason::kDeviceChanged));
  EXPECT_EQ(file_digest(disk), before);
}

TEST_F(TokenWriterTest, TokenThatWouldChangeMoreThanWrapsAndRecordsIsRefused) {
  const auto disk = device("disk");
  volume_on(disk);
  const auto before = file_digest(disk);
  const auto refused = [&](luks2::Token token, const std::string& what) {
    const auto end =
        worker_->replace_token(scan_one(disk).handle, luks2::print_token(token).value(), soon());
    ASSERT_THAT(end, FailsWith(Reason::kTokenInvalid));
    EXPECT_NE(end.error().message().find(what), std::string::npos) << end.error().str();
  };
  auto token = other_token();
  token.generation = 2;
  refused(token, "generation");
  token = other_token();
  token.context.back() = std::byte{9};
  refused(token, "context");
  token = other_token();
  token.keyslots = {1};
  refused(token, "keyslots");
  token = other_token();
  token.wraps.push_back(token.wraps.front());
  refused(token, "number of wraps");
  token.threshold = 2;
  refused(token, "threshold");
  EXPECT_THAT(worker_->replace_token(scan_one(disk).handle, "{}", soon()),
              FailsWith(Reason::kTokenInvalid));
  EXPECT_EQ(file_digest(disk), before);
}

TEST_F(TokenWriterTest, FullHeaderRefusesAndStaysAsItIs) {
  const auto disk = device("disk");
  volume_on(disk);
  {
    crypt_device* raw = nullptr;
    ASSERT_EQ(::crypt_init(&raw, disk.c_str()), 0);
    const CHandle<crypt_device, ::crypt_free> owned(raw);
    ASSERT_EQ(::crypt_load(raw, CRYPT_LUKS2, nullptr), 0);
    const std::string filler(29'000, 'x');
    for (const int id : {1, 2}) {
      const auto json = R"({"type":"other","keyslots":[],"note":")" + filler + R"("})";
      ASSERT_EQ(::crypt_token_json_set(raw, id, json.c_str()), id);
    }
  }
  const auto before = file_digest(disk);
  auto token = other_token();
  token.records = {Bytes(4000, std::byte{8})};
  EXPECT_THAT(
      worker_->replace_token(scan_one(disk).handle, luks2::print_token(token).value(), soon()),
      FailsWith(Reason::kTokenSpace));
  EXPECT_EQ(file_digest(disk), before);
}

TEST_F(TokenWriterTest, HeaderWithoutATokenIsLeftAlone) {
  const auto disk = device("disk");
  volume_on(disk);
  {
    crypt_device* raw = nullptr;
    ASSERT_EQ(::crypt_init(&raw, disk.c_str()), 0);
    const CHandle<crypt_device, ::crypt_free> owned(raw);
    ASSERT_EQ(::crypt_load(raw, CRYPT_LUKS2, nullptr), 0);
    ASSERT_EQ(::crypt_token_json_set(raw, 0, nullptr), 0);
  }
  EXPECT_THAT(worker_->replace_token(scan_one(disk).handle, other_json(), soon()),
              FailsWith(Reason::kTokenMissing));
}

TEST_F(TokenWriterTest, AnotherProgramsChangeIsWaitedForAndThenRefused) {
  const auto disk = device("disk");
  const auto opened = open_device(disk, FilesAllowed::kYes).value();
  const UniqueFd other(::open(disk.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  EXPECT_THAT(lock_header(opened, Deadline::after(std::chrono::milliseconds(1))),
              FailsWith(Reason::kBusy));
  ASSERT_EQ(::flock(other.get(), LOCK_UN), 0);
  EXPECT_THAT(lock_header(opened, soon()), Succeeds());
}

// A device's lock is a file beside it, which its last holder may take away.
TEST_F(TokenWriterTest, LockOfADeviceIsTheFileThatTheLibraryUses) {
  OpenDevice opened;
  opened.number = 1;
  opened.identity.major = 252;
  opened.identity.minor = 16;
  const auto folder = path("locks");
  {
    const auto lock = lock_header(opened, soon(), folder);
    ASSERT_THAT(lock, Succeeds());
    EXPECT_TRUE(std::filesystem::exists(folder + "/L_252:16"));
    EXPECT_THAT(lock_header(opened, Deadline::after(std::chrono::milliseconds(1)), folder),
                FailsWith(Reason::kBusy));
  }
  EXPECT_THAT(lock_header(opened, soon(), folder), Succeeds());
}

TEST_F(TokenWriterTest, ReadOnlyDeviceIsNotWritten) {
  const auto disk = device("disk");
  volume_on(disk);
  auto held = hold(disk);
  held.device.identity.read_only = true;
  TokenWriter writer(one_shot_program_);
  EXPECT_THAT(writer.replace(held, other_json(), soon()), FailsWith(Reason::kAccessDenied));
}

// A header that is damaged in one copy, cut off after each copy: it opens at any instant, and the
// next time both copies are good.
class TokenWriterCut : public TokenWriterTest,
                       public ::testing::WithParamInterface<std::tuple<int, int>> {};

TEST_P(TokenWriterCut, HeaderOpensWhereverItWasCutOff) {
  const auto [damaged, stop_after] = GetParam();
  const auto disk = device("disk");
  const auto made = volume_on(disk);
  if (damaged > 0) {
    write_at(disk, static_cast<std::uint64_t>(damaged - 1) * kCopyBytes + 5000, "damage");
    const auto copies = scan_one(disk).header->copies;
    ASSERT_EQ(copies, damaged == 1 ? luks2::Copies::kPrimaryBad : luks2::Copies::kSecondaryBad);
  }
  TokenWriter writer(one_shot_program_);
  int steps = 0;
  const auto cut = writer.replace(
      hold(disk), other_json(), soon(), [&, stop = stop_after](WriteStep /*step*/) -> Result<void> {
        return ++steps == stop ? fail(Reason::kIoError, "the power went") : Result<void>{};
      });
  ASSERT_THAT(cut, FailsWith(Reason::kIoError));

  const auto left = scan_one(disk);
  ASSERT_THAT(left.header, Succeeds());
  EXPECT_EQ(left.header->token, other_token());  // The newer copy is whole.
  EXPECT_THAT(verify(left, made.profile, made.key), Succeeds());

  ASSERT_THAT(worker_->replace_token(left.handle, other_json(), soon()), Succeeds());
  const auto after = scan_one(disk);
  EXPECT_EQ(after.header->copies, luks2::Copies::kBoth);
  EXPECT_EQ(after.header->token, other_token());
  EXPECT_THAT(verify(after, made.profile, made.key), Succeeds());
}

// The copy that is written first may be torn at any place: the other one is whole then.
TEST_P(TokenWriterCut, TornFirstCopyLeavesTheOtherOne) {
  const auto [damaged, stop_after] = GetParam();
  if (stop_after == 2) return;
  const auto disk = device("disk");
  const auto made = volume_on(disk);
  if (damaged > 0)
    write_at(disk, static_cast<std::uint64_t>(damaged - 1) * kCopyBytes + 5000, "damage");
  const auto before = scan_one(disk);
  TokenWriter writer(one_shot_program_);
  const auto cut =
      writer.replace(hold(disk), other_json(), soon(), [&](WriteStep step) -> Result<void> {
        const auto at = step == WriteStep::kFirstCopy ? 0 : kCopyBytes;
        write_at(disk, at + 4096, "torn");
        return fail(Reason::kIoError, "the power went");
      });
  ASSERT_THAT(cut, FailsWith(Reason::kIoError));
  const auto left = scan_one(disk);
  ASSERT_THAT(left.header, Succeeds());
  EXPECT_EQ(left.header->token, before.header->token);
  EXPECT_THAT(verify(left, made.profile, made.key), Succeeds());
}

INSTANTIATE_TEST_SUITE_P(CopiesAndSteps, TokenWriterCut,
                         ::testing::Combine(::testing::Values(0, 1, 2), ::testing::Values(1, 2)));

TEST(TokenChangeTest, AnythingElseThatDiffersIsRefused) {
  luks2::CheckedHeader before;
  before.epoch = 4;
  before.token = luks2::parse_token(some_token()).value();
  luks2::CheckedHeader after = before;
  after.epoch = 5;
  after.token = other_token();
  EXPECT_THAT(require_only_token_changed(before, after, other_token()), Succeeds());
  EXPECT_THAT(require_only_token_changed(before, after, *before.token),
              FailsWith(Reason::kHeaderUnusual));
  const auto refused = [&](auto change) {
    luks2::CheckedHeader other = after;
    change(other);
    EXPECT_THAT(require_only_token_changed(before, other, other_token()),
                FailsWith(Reason::kHeaderUnusual));
  };
  refused([](auto& header) { header.epoch = 6; });
  refused([](auto& header) { header.label = "other"; });
  refused([](auto& header) { header.keyslots_foreign = {1}; });
  refused([](auto& header) { header.tokens_foreign = 1; });
  refused([](auto& header) { header.copies = luks2::Copies::kPrimaryBad; });
  refused([](auto& header) { header.digest = luks2::KeyDigest{}; });
}

}  // namespace
}  // namespace coffer::agent
