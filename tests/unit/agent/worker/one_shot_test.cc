// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/one_shot.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::agent {
namespace {

// How a process ends that never answers: a script that runs `command`.
OneShotEnd end_of(const std::string& command) {
  const tests::TempDir folder;
  const auto program = folder.path() / "one-shot";
  std::ofstream(program) << "#!/bin/sh\n" << command << "\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  OneShotRunner runner(program.string());
  const auto key = SecretBytes::random(64).value();
  return runner.run(OneShotRequest(), {}, &key, Deadline::after(std::chrono::seconds(30)));
}

TEST(OneShotRunnerTest, ProcessThatFailedByItselfMadeNothing) {
  const auto end = end_of("exit 1");
  EXPECT_FALSE(end.reply);
  EXPECT_FALSE(end.cut_off);
}

TEST(OneShotRunnerTest, WhatAProcessMadeStandsWhenItsAnswerIsLost) {
  const auto end = end_of("exit 0");
  EXPECT_FALSE(end.reply);
  EXPECT_TRUE(end.cut_off);
  EXPECT_FALSE(end.lives);
}

TEST(OneShotRunnerTest, KilledProcessMayHaveMadeWhatStands) {
  const auto end = end_of("kill -KILL $$");
  EXPECT_THAT(end.reply, tests::FailsWith(Reason::kActivationFailed));
  EXPECT_TRUE(end.cut_off);
  EXPECT_FALSE(end.lives);
}

}  // namespace
}  // namespace coffer::agent
