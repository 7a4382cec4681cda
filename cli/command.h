// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <iosfwd>
#include <span>
#include <string>

namespace CLI {  // NOLINT(readability-identifier-naming): the library's name.
class App;
}

namespace coffer::cli {

// Exit statuses that are not those of an Error (error_reasons.h has these).
inline constexpr int kExitOk = 0;
inline constexpr int kExitNo = 1;     // The question was answered, with no.
inline constexpr int kExitUsage = 2;  // Wrong arguments, or a file that cannot be read.
inline constexpr int kExitLost = 3;   // Done, but for keys that are lost; they are named.

// Invocation is one run of `coffer`: where its output goes, and what the chosen command will do.
struct Invocation {
  std::ostream& out;  // What was asked for: tables for people, or one JSON document.
  std::ostream& err;  // Everything else.
  std::function<int()>
      action;  // Set by the command that was chosen; its result is the exit status.
};

// A command declares itself below `parent` and, when it is chosen, sets the invocation's action.
// Both outlive what it declares.
using DeclareCommand = void (*)(CLI::App& parent, Invocation& invocation);

// The table (commands.cc). A command is one file with one such function; it is added there.
std::span<const DeclareCommand> all_commands();

// Parses the arguments and runs the command; the exit status. Throws nothing.
int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err) noexcept;

}  // namespace coffer::cli
