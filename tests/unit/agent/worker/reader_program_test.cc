// SPDX-License-Identifier: Apache-2.0
// Every header vector through the program coffer-reader, as the worker sends them.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>

#include "agent/reader/header_batch.h"
#include "agent/worker/one_shot.h"
#include "cli/selftest/luks2_vectors.h"
#include "core/base/files.h"
#include "core/ipc/client.h"
#include "core/ipc/sockets.h"
#include "tests/support/paths.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::agent {
namespace {

using tests::Succeeds;

constexpr std::size_t kBatch = 512;  // As HeaderScanner.

Deadline soon() {
  return Deadline::after(std::chrono::seconds(30));
}

class ReaderProgramTest : public ::testing::Test {
 protected:
  ReaderProgramTest() {
    const auto socket = (folder_.path() / "reader.sock").string();
    const auto program = (tests::bin_dir() / "coffer-reader").string();
    pid_ = start_program({program, "--socket", socket}, -1, -1).value_or(-1);
    ipc::Client::Options options;
    options.peer = "coffer-reader";
    options.lost = Reason::kReaderLost;
    options.connect = [socket](Deadline deadline) { return ipc::connect_to(socket, deadline); };
    client_ = std::make_unique<ipc::Client>(options);
  }
  ~ReaderProgramTest() override {
    client_.reset();
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    static_cast<void>(end_program(pid_, soon()).has_value());
  }

  // What a device of that vector starts with, as long as the worker reads it.
  static Bytes start_of(const cli::HeaderCase& one) {
    Bytes start = one.start;
    start.resize(std::min<std::size_t>(luks2::kReaderBytes, one.device_bytes));
    return start;
  }

  // The reader's answer to one batch; it may be about to listen.
  Result<std::vector<luks2::CheckOutcome>> ask(std::span<const cli::HeaderCase> cases) {
    auto memfd = make_memfd("headers", cases.size() * luks2::kReaderBytes);
    if (!memfd) return tl::unexpected(memfd.error());
    std::vector<HeaderSlot> slots;
    for (const auto& one : cases) {
      const auto start = start_of(one);
      const auto offset = slots.size() * luks2::kReaderBytes;
      if (const auto written = write_exactly_at(memfd->get(), start, static_cast<off_t>(offset));
          !written)
        return tl::unexpected(written.error());
      slots.push_back({offset, static_cast<std::uint32_t>(start.size()), one.device_bytes});
    }
    if (const auto sealed = seal_memfd(memfd->get()); !sealed)
      return tl::unexpected(sealed.error());
    const int fd = memfd->get();
    for (const auto patience = soon();;) {
      auto reply = client_->call(kCheckHeaders, encode_slots(slots), std::span(&fd, 1), soon());
      if (reply) return read_outcomes(reply->fds.at(0).get(), cases.size());
      if (patience.passed()) return tl::unexpected(reply.error());
    }
  }

  tests::TempDir folder_;
  std::unique_ptr<ipc::Client> client_;
  pid_t pid_ = -1;
};

TEST_F(ReaderProgramTest, EveryVectorGetsTheParsersVerdict) {
  const auto cases = cli::load_header_cases(tests::vectors_dir() / "luks2");
  ASSERT_THAT(cases, Succeeds());
  ASSERT_EQ(cases->size(), 658U);
  std::size_t good = 0;
  for (std::size_t from = 0; from < cases->size(); from += kBatch) {
    const auto batch = std::span(*cases).subspan(from, std::min(kBatch, cases->size() - from));
    const auto outcomes = ask(batch);
    ASSERT_THAT(outcomes, Succeeds());
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const auto& outcome = (*outcomes)[i];
      EXPECT_EQ(outcome, luks2::check_header(start_of(batch[i]), batch[i].device_bytes))
          << batch[i].group << ": " << batch[i].name;
      if (std::holds_alternative<luks2::CheckedHeader>(outcome)) ++good;
    }
  }
  EXPECT_GT(good, 0U);
  EXPECT_LT(good, cases->size());
  EXPECT_EQ(::waitpid(pid_, nullptr, WNOHANG), 0) << "it lived through all of them";
}

}  // namespace
}  // namespace coffer::agent
