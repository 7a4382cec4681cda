// SPDX-License-Identifier: Apache-2.0
// A vault process whose configuration names an SDF device.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>

#include "hsm/vault_config.h"
#include "tests/contract/key_vault_contract.h"
#include "tests/support/result_matchers.h"
#include "tests/support/sdf_folder.h"
#include "tests/support/vault_process.h"

namespace coffer::tests {
namespace {

SdfFolder& folder() {
  static SdfFolder folder;
  return folder;
}

// What coffer-vault --make-sdf-keys prints, and how it ends.
struct Ended {
  int code = -1;
  std::string output;
};
Ended make_keys(const std::string& config) {
  const auto command = (bin_dir() / "coffer-vault").string() + " --make-sdf-keys --config " +
                       config + " 2>/dev/null";
  Ended out;
  FILE* const pipe = ::popen(command.c_str(), "re");
  if (pipe == nullptr) return out;
  std::array<char, 256> line{};
  while (std::fgets(line.data(), line.size(), pipe) != nullptr) out.output += line.data();
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) out.code = WEXITSTATUS(status);
  return out;
}

hsm::VaultConfig new_token() {
  hsm::VaultConfig config;
  config.sdf_library = sdf_library_path();
  config.sdf_kek = folder().add_kek();
  config.state_folder = (folder().path() / ("state-" + std::to_string(config.sdf_kek))).string();
  std::filesystem::create_directory(config.state_folder);
  return config;
}

std::string written(const hsm::VaultConfig& config) {
  auto path = config.state_folder + "/vault.toml";
  if (!write_file_durably(path, as_bytes(config.to_text()))) std::abort();
  return path;
}

struct Parts {
  hsm::VaultConfig config;
  FakeDekSink sink;
  std::unique_ptr<DeliverySocket> worker;
};

Result<VaultUnderTest> start(const std::shared_ptr<Parts>& parts) {
  VaultProcess::Options options;
  options.config = parts->config;
  options.files = folder().path();
  options.deliver_socket = parts->worker->path();
  auto process = VaultProcess::start(options);
  if (!process) return tl::unexpected(process.error());
  const std::shared_ptr<VaultProcess> running = std::move(*process);
  return VaultUnderTest{parts, std::shared_ptr<keyring::KeyVault>(running, &running->client()),
                        &parts->sink};
}

VaultMaker vault_process() {
  return {.name = "Sdf",
          .make = []() -> Result<VaultUnderTest> {
            auto parts = std::make_shared<Parts>();
            parts->config = new_token();
            if (make_keys(written(parts->config)).code != 0)
              return fail(Reason::kInternal, "the token's keys were not made");
            parts->worker = std::make_unique<DeliverySocket>(folder().path(), parts->sink);
            return start(parts);
          },
          .restart =
              [](VaultUnderTest& before) {
                before.vault.reset();
                return start(std::static_pointer_cast<Parts>(before.parts));
              },
          .durable_floors = true,
          .skip_reason = "",
          .algorithm = keyring::KeyAlgorithm::kSm4};
}

INSTANTIATE_TEST_SUITE_P(VaultProcess, KeyVaultContract, testing::Values(vault_process()),
                         maker_name);

TEST(MakeSdfKeysTest, PrintsTheRootIdOnceAndReplacesNothing) {
  const auto config = written(new_token());
  const auto first = make_keys(config);
  EXPECT_EQ(first.code, 0);
  EXPECT_TRUE(first.output.starts_with("sdf-")) << first.output;
  const auto second = make_keys(config);
  EXPECT_EQ(second.code, 1);
  EXPECT_EQ(second.output, "");
}

TEST(MakeSdfKeysTest, WithoutAnSdfDeviceTheConfigurationIsWrong) {
  auto config = new_token();
  config.sdf_library.clear();
  config.module_path = "/usr/lib/m.so";
  config.uri_text = "pkcs11:token=a";
  EXPECT_EQ(make_keys(written(config)).code, 78);
}

}  // namespace
}  // namespace coffer::tests
