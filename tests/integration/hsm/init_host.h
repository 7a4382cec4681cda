// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "hsm/host_setup.h"
#include "tests/support/command.h"
#include "tests/support/paths.h"
#include "tests/support/softhsm.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {

// Two users that every Debian has, in place of the vault's and the agent's.
inline constexpr const char* kVaultUser = "daemon";
inline constexpr const char* kAgentUser = "bin";

inline std::string read_text(const std::filesystem::path& path) {
  const auto bytes = read_file(path.string(), 1 << 20);
  return bytes ? std::string(as_text(*bytes)) : std::string();
}

inline unsigned mode_of(const std::filesystem::path& path) {
  struct stat status{};
  return ::lstat(path.c_str(), &status) == 0 ? status.st_mode & 07777U : 0;
}

inline bool others_reach(std::filesystem::path path) {
  for (; path != path.root_path(); path = path.parent_path()) {
    if ((mode_of(path) & 0001U) == 0) return false;
  }
  return true;
}

// In place of systemctl: what it is asked stands in `log`, and units that match `failing` (a shell
// pattern) do not start.
inline std::string make_systemctl(const std::filesystem::path& folder, const std::string& failing) {
  const auto path = folder / "systemctl";
  std::ofstream(path) << "#!/bin/sh\necho \"$*\" >> '" << (folder / "log").string()
                      << "'\nfor unit; do :; done\ncase $unit in " << failing
                      << ") exit 1;; esac\n";
  std::filesystem::permissions(path, std::filesystem::perms(0755));
  return path.string();
}

// InitHostTest sets up hosts by `coffer init`, each below a folder of its own.
class InitHostTest : public testing::Test {
 protected:
  InitHostTest() = default;
  explicit InitHostTest(const std::filesystem::path& parent) : dir_(parent) {}
  void SetUp() override {
    if (softhsm_module_path().empty()) GTEST_SKIP() << "SoftHSM is not installed";
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become the vault's user";
    std::filesystem::permissions(dir_.path(), std::filesystem::perms(0755));
    if (!others_reach(dir_.path()) || !others_reach(bin_dir()))
      GTEST_SKIP() << "other users cannot reach the folders of this test";
  }

  std::filesystem::path at(const std::string& host, std::string_view path) const {
    return dir_.path() / host / path;
  }
  hsm::HostPlaces places(const std::string& host) const {
    hsm::HostPlaces places;
    places.prefix = (dir_.path() / host).string();
    places.vault_program = (bin_dir() / "coffer-vault").string();
    places.agent_program = (bin_dir() / "cofferd").string();
    places.vault_user.user = kVaultUser;
    places.agent_user.user = kAgentUser;
    return places;
  }

  // `coffer init` for the host in folder `host`, as words.
  std::vector<std::string> init_words(const std::string& host) const {
    return {(bin_dir() / "coffer").string(),
            "init",
            "--module",
            module_.empty() ? softhsm_module_path() : module_,
            "--prefix",
            (dir_.path() / host).string(),
            "--vault-program",
            (bin_dir() / "coffer-vault").string(),
            "--agent-program",
            (bin_dir() / "cofferd").string(),
            "--vault-user",
            kVaultUser,
            "--agent-user",
            kAgentUser,
            "--plain-pin"};
  }
  // Runs it, with `input` as its standard input.
  CommandEnd init(const std::string& host, const std::vector<std::string>& more,
                  const std::string& input = "/dev/null") const {
    std::filesystem::create_directories(dir_.path() / host);
    auto words = init_words(host);
    words.insert(words.end(), more.begin(), more.end());
    return run_command(std::move(words),
                       {.input_path = input, .output_path = (dir_.path() / "output").string()});
  }

  std::vector<std::string> shares_of(const std::string& host) const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(at(host, "root/coffer-recovery")))
      files.push_back(entry.path().string());
    std::ranges::sort(files);
    return files;
  }

  TempDir dir_;
  std::string module_;  // "": SoftHSM itself.
};

}  // namespace coffer::tests
