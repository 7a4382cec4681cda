// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>

#include <csignal>

#include "agent/worker/one_shot.h"
#include "tests/unit/agent/worker/worker_fixture.h"

namespace coffer::agent {
namespace {

// A program of ours, killed at the end.
class Running {
 public:
  explicit Running(const std::vector<std::string>& command)
      : pid_(start_program(command, -1, -1).value_or(-1)) {}
  ~Running() { kill(); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  // Asks it to end: its exit status, or -1.
  int end() {
    ::kill(pid_, SIGTERM);
    const auto status = end_program(std::exchange(pid_, -1), soon());
    return status && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
  }

 private:
  pid_t pid_;
};

// The programs themselves, as systemd starts them but with paths for sockets.
class ProgramsTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  static std::string program(const std::string& name) { return (tests::bin_dir() / name).string(); }
  std::vector<std::string> reader() const {
    return {program("coffer-reader"), "--socket", path("reader.sock")};
  }
  std::vector<std::string> worker() const {
    return {program("coffer-worker"),
            "--allow-files",
            "--control",
            path("worker.sock"),
            "--deliver",
            path("deliver.sock"),
            "--reader",
            path("reader.sock"),
            "--marks",
            folder_.path().string()};
  }
  // The header's result, once the programs listen.
  Result<luks2::CheckedHeader> scan(Worker& client) {
    const ScanItem item{path("disk"), ""};
    const auto patience = soon();
    for (;;) {
      const auto results = client.scan(std::span(&item, 1), soon());
      const bool there = results && results->at(0) &&
                         (results->at(0)->header ||
                          results->at(0)->header.error().reason() != Reason::kReaderLost);
      if (there) return results->at(0)->header;
      if (patience.passed()) return fail(Reason::kTimedOut, "the programs did not answer");
    }
  }

  tests::TempDir folder_;
};

TEST_F(ProgramsTest, WorkerAndReaderServeAndEndWhenAsked) {
  make_device(path("disk"), 1U << 20U);
  Running reading(reader());
  Running working(worker());
  const auto client = make_worker_client(path("worker.sock"));
  EXPECT_THAT(scan(*client), FailsWith(Reason::kNotLuks2));
  EXPECT_EQ(working.end(), 0);
  EXPECT_EQ(reading.end(), 0);
}

TEST_F(ProgramsTest, KilledReaderIsFoundAgain) {
  make_device(path("disk"), 1U << 20U);
  const Running working(worker());
  const auto client = make_worker_client(path("worker.sock"));
  for (int life = 0; life < 3; ++life) {
    Running reading(reader());
    EXPECT_THAT(scan(*client), FailsWith(Reason::kNotLuks2));
    reading.kill();
  }
}

TEST_F(ProgramsTest, KilledWorkerIsFoundAgain) {
  make_device(path("disk"), 1U << 20U);
  const Running reading(reader());
  const auto client = make_worker_client(path("worker.sock"));
  for (int life = 0; life < 3; ++life) {
    Running working(worker());
    EXPECT_THAT(scan(*client), FailsWith(Reason::kNotLuks2));
    working.kill();
    EXPECT_THAT(client->list_mappings(Deadline::after(std::chrono::milliseconds(200))),
                ::testing::Not(Succeeds()));
  }
}

TEST_F(ProgramsTest, OneShotThatWasKilledIsToldFromOneThatAnswered) {
  const auto key = SecretBytes::random(64).value();
  const auto run = [&](const std::string& program, Deadline deadline) {
    OneShotRequest request;  // No header and no device: the program refuses that.
    request.profile = new_volume_profile(Uuid::random().value(), false);
    return OneShotRunner(program).run(request, {}, &key, deadline);
  };
  const auto script = [&](const std::string& body) {
    const auto file = path("one-shot");
    std::ofstream(file) << "#!/bin/sh\n" << body << "\n";
    std::filesystem::permissions(file, std::filesystem::perms::owner_all);
    return file;
  };
  const auto answered = run(program("coffer-worker"), soon());
  EXPECT_THAT(answered.reply, FailsWith(Reason::kMessageInvalid));
  EXPECT_FALSE(answered.cut_off);

  const auto killed = run(script("kill -9 $$"), soon());
  EXPECT_THAT(killed.reply, FailsWith(Reason::kActivationFailed));
  EXPECT_TRUE(killed.cut_off);

  const auto late = run(script("exec sleep 60"), Deadline::after(std::chrono::milliseconds(200)));
  EXPECT_THAT(late.reply, FailsWith(Reason::kTimedOut));
  EXPECT_TRUE(late.cut_off);

  const auto wordless = run(script("exit 1"), soon());
  EXPECT_FALSE(wordless.reply.has_value());
  EXPECT_FALSE(wordless.cut_off) << "it ended by itself and made nothing";
}

TEST_F(ProgramsTest, WrongArgumentsAreRefused) {
  const auto run = [](const std::vector<std::string>& command) {
    const auto status = end_program(start_program(command, -1, -1).value(), soon());
    return status && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
  };
  EXPECT_EQ(run({program("coffer-worker"), "--nonsense"}), 1);
  EXPECT_EQ(run({program("coffer-worker")}), 1) << "no sockets";
  EXPECT_EQ(run({program("coffer-reader"), "--nonsense"}), 1);
  EXPECT_EQ(run({program("coffer-worker"), "--one-shot"}), 1) << "no request";
}

}  // namespace
}  // namespace coffer::agent
