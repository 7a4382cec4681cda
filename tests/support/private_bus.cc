// SPDX-License-Identifier: Apache-2.0
#include "tests/support/private_bus.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/paths.h"

namespace coffer::tests {
namespace {

constexpr const char* kDaemon = "/usr/bin/dbus-daemon";

constexpr const char* kConfigHead = R"(<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>custom</type>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
  <limit name="max_message_size">33554432</limit>
  <limit name="max_replies_per_connection">128</limit>
  <limit name="reply_timeout">30000</limit>
)";

constexpr const char* kOpenPolicy = R"(  <policy context="default">
    <allow own="*"/>
    <allow send_type="method_call"/>
  </policy>
)";

constexpr const char* kSystemPolicy = R"(  <policy context="default">
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <includedir>policy.d</includedir>
)";

// The file of dbus/ as it is installed, for the user who runs the test.
void install_policy(const std::filesystem::path& folder) {
  const auto name = "org.coffer.Agent1.conf";
  const std::ifstream source(source_dir() / "dbus" / name);
  std::stringstream text;
  text << source.rdbuf();
  std::string own = text.str();
  constexpr std::string_view kUser = "user=\"coffer\"";
  if (const auto at = own.find(kUser); at != std::string::npos)
    own.replace(at, kUser.size(), "user=\"" + std::to_string(::geteuid()) + "\"");
  std::filesystem::create_directory(folder / "policy.d");
  std::ofstream(folder / "policy.d" / name) << own;
}

extern "C" char** environ;

}  // namespace

PrivateBus::PrivateBus(Policy policy) {
  if (::access(kDaemon, X_OK) != 0) {
    problem_ = "dbus-daemon is not installed";
    return;
  }
  std::string pattern = (std::filesystem::temp_directory_path() / "coffer-bus-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) {
    problem_ = std::string("no temporary folder: ") + std::strerror(errno);
    return;
  }
  folder_ = pattern;
  ::chmod(folder_.c_str(), 0755);  // Clients of other users come in.
  write_config(policy);
  start();
}

PrivateBus::~PrivateBus() {
  stop();
  if (!folder_.empty()) std::filesystem::remove_all(folder_);
}

std::string PrivateBus::address() const {
  return "unix:path=" + folder_ + "/bus";
}

void PrivateBus::write_config(Policy policy) const {
  if (policy == Policy::kAsSystem) install_policy(folder_);
  std::ofstream config(folder_ + "/bus.conf");
  config << kConfigHead << (policy == Policy::kOpen ? kOpenPolicy : kSystemPolicy) << "  <listen>"
         << address() << "</listen>\n</busconfig>\n";
}

void PrivateBus::start() {
  int ready[2];
  if (::pipe2(ready, O_CLOEXEC) != 0) {
    problem_ = std::strerror(errno);
    return;
  }
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ready[1], 3);
  ::posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  const std::string config = "--config-file=" + folder_ + "/bus.conf";
  std::string words[] = {kDaemon, config, "--nofork", "--print-address=3"};
  char* argv[] = {words[0].data(), words[1].data(), words[2].data(), words[3].data(), nullptr};
  const int r = ::posix_spawn(&daemon_, kDaemon, &actions, nullptr, argv, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ready[1]);

  // The address is printed once the socket listens.
  char byte = 0;
  if (r != 0 || ::read(ready[0], &byte, 1) != 1) problem_ = "dbus-daemon did not start";
  ::close(ready[0]);
}

void PrivateBus::stop() {
  if (daemon_ <= 0) return;
  ::kill(daemon_, SIGKILL);
  ::waitpid(daemon_, nullptr, 0);
  daemon_ = -1;
  ::unlink((folder_ + "/bus").c_str());
}

}  // namespace coffer::tests
