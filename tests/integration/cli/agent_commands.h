// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json.hpp>
#include <string>
#include <vector>

#include "tests/integration/dbus/dbus_fixture.h"
#include "tests/support/paths.h"

namespace coffer::tests {

// The command line against the simulated engine, with two volumes.
class AgentCommandsTest : public DbusTest {
 protected:
  void SetUp() override {
    DbusTest::SetUp();
    if (IsSkipped()) return;
    a = engine->add_volume("vol-a");
    b = engine->add_volume("vol-b");
  }

  std::vector<std::string> words_of(std::vector<std::string> words) const {
    words.insert(words.begin(), (bin_dir() / "coffer").string());
    words.insert(words.end(), {"--bus", bus_.address()});
    return words;
  }
  CommandResult coffer(std::vector<std::string> words) {
    return run_command(*loop, words_of(std::move(words)));
  }
  boost::json::value coffer_json(std::vector<std::string> words, int status = 0) {
    words.emplace_back("--json");
    const auto result = coffer(std::move(words));
    EXPECT_EQ(result.status, status) << result.out << result.err;
    EXPECT_THAT(result.err, testing::IsEmpty());
    boost::json::error_code error;
    auto value = boost::json::parse(result.out, error);
    EXPECT_FALSE(error) << result.out;
    return value;
  }
  agent::VolumeState state_of(const VolumeId& id) const { return engine->volume(id)->state; }

  VolumeId a{Uuid()};
  VolumeId b{Uuid()};
};

}  // namespace coffer::tests
