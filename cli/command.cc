// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"

#include <CLI/CLI.hpp>
#include <exception>
#include <ostream>

#include "core/base/error_reasons.h"

namespace coffer::cli {
namespace {

int parse_and_run(int argc, const char* const* argv, Invocation& invocation) {
  CLI::App app("Encrypted volumes of this host, and the keys that open them.", "coffer");
  app.set_version_flag("--version", std::string("coffer ") + COFFER_VERSION);
  app.require_subcommand(1);
  app.fallthrough(false);
  for (const DeclareCommand declare : all_commands()) declare(app, invocation);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error, invocation.out, invocation.err);
    return status == 0 ? kExitOk : kExitUsage;
  }
  return invocation.action ? invocation.action() : kExitUsage;
}

}  // namespace

int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err) noexcept {
  try {
    Invocation invocation{out, err, {}};
    return parse_and_run(argc, argv, invocation);
  } catch (const std::exception& error) {
    err << "coffer: internal error: " << error.what() << "\n";
  } catch (...) {
    err << "coffer: internal error\n";
  }
  return reason_info(Reason::kInternal).exit_status;
}

}  // namespace coffer::cli
