// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace coffer::cli {

// Runs a program to its end, with this one's input and output: its exit status, or 70 when it was
// not started or was killed.
int run_program(std::vector<std::string> arguments);

// HostUnits enables, starts and stops the units that work for the token of one vault, by running
// systemctl. Its calls wait for systemctl and change nothing else; as root.
class HostUnits {
 public:
  // `systemctl`: path of that program.
  HostUnits(std::string systemctl, const std::string& vault_name);

  // What became of each unit, in the order of their start.
  struct Outcome {
    std::vector<std::string> started;
    std::vector<std::string> failed;  // systemctl has said why on standard error.
  };
  // Enables all of them and starts them, but for the waiting boot unit, which has its place at the
  // next boot alone and is only enabled. One that fails keeps no other from its start.
  Outcome start() const;

  void stop_agent() const;
  // The agent, the vault, and the sockets that would start them again. False: systemctl has said
  // why.
  bool stop_all() const;

 private:
  bool run(std::vector<std::string> arguments) const;

  std::string systemctl_;
  std::string vault_unit_;  // Without its kind.
  std::vector<std::string> units_;
};

}  // namespace coffer::cli
