// SPDX-License-Identifier: Apache-2.0
#include "cli/host_units.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace coffer::cli {
namespace {

constexpr const char* kBootUnit = "coffer-boot.service";
constexpr const char* kAgentUnit = "cofferd.service";
constexpr const char* kAgentSocket = "cofferd.socket";
constexpr int kNotRun = 70;

}  // namespace

HostUnits::HostUnits(std::string systemctl, const std::string& vault_name)
    : systemctl_(std::move(systemctl)),
      vault_unit_("coffer-vault@" + vault_name),
      units_{vault_unit_ + ".socket",
             "coffer-deliver.socket",
             "coffer-worker.socket",
             "coffer-reader.socket",
             kAgentSocket,
             kBootUnit,
             "coffer-close.service",
             kAgentUnit} {}

HostUnits::Outcome HostUnits::start() const {
  run({"daemon-reload"});
  Outcome outcome;
  for (const auto& unit : units_) {
    std::vector<std::string> arguments{"--quiet", "enable"};
    if (unit != kBootUnit) arguments.emplace_back("--now");
    arguments.push_back(unit);
    (run(std::move(arguments)) ? outcome.started : outcome.failed).push_back(unit);
  }
  return outcome;
}

void HostUnits::stop_agent() const {
  run({"stop", kAgentUnit});
}

bool HostUnits::stop_all() const {
  return run({"stop", kAgentSocket, kAgentUnit, vault_unit_ + ".socket", vault_unit_ + ".service"});
}

bool HostUnits::run(std::vector<std::string> arguments) const {
  arguments.insert(arguments.begin(), systemctl_);
  return run_program(std::move(arguments)) == 0;
}

int run_program(std::vector<std::string> arguments) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t pid = -1;
  if (::posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), ::environ) != 0) return kNotRun;
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return kNotRun;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : kNotRun;
}

}  // namespace coffer::cli
