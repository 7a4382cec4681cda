// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace coffer::tests {

struct CommandEnd {
  int status = -1;     // The exit status; -1: it could not be started, or a signal ended it.
  std::string output;  // What it wrote, to standard output and standard error.
};

struct CommandOptions {
  std::string input_path = "/dev/null";
  std::string output_path;                               // For who reads along; "": nobody does.
  std::chrono::seconds limit = std::chrono::minutes(2);  // It is killed after that.
};

// Runs a program to its end; the first of `words` is its path, or a name to be found in PATH.
CommandEnd run_command(std::vector<std::string> words, const CommandOptions& options = {});

}  // namespace coffer::tests
