// SPDX-License-Identifier: Apache-2.0
// The service as an admin and other programs meet it: busctl, gdbus's libraries, as real commands.
#include <filesystem>

#include "dbus/paths.h"
#include "tests/integration/dbus/dbus_fixture.h"
#include "tests/support/paths.h"

namespace coffer::tests {
namespace {

using agent::VolumeState;
using testing::HasSubstr;

constexpr const char* kBusctl = "/usr/bin/busctl";
constexpr const char* kPython = "/usr/bin/python3";

class ToolsTest : public DbusTest {
 protected:
  CommandResult busctl(std::vector<std::string> words) {
    words.insert(words.begin(), {kBusctl, "--address=" + bus_.address(), "--no-pager"});
    return run_command(*loop, words);
  }
  CommandResult python(const std::string& script, std::vector<std::string> arguments) {
    const auto path = source_dir() / "tests" / "integration" / "dbus" / script;
    std::vector<std::string> words{kPython, path.string(), bus_.address()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return run_command(*loop, words, std::chrono::seconds(60));
  }
  bool python_has_gi() { return run_command(*loop, {kPython, "-c", "import gi"}).status == 0; }
};

class BusctlTest : public ToolsTest {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kBusctl)) GTEST_SKIP() << "busctl is not installed";
    ToolsTest::SetUp();
  }
};

TEST_F(BusctlTest, TreeShowsEveryObject) {
  const auto volume = engine->add_volume("vol-a");
  const auto job = engine->verify({volume}, {});
  const auto tree = busctl({"tree", "--list", dbus::kBusName});
  EXPECT_EQ(tree.status, 0) << tree.err;
  for (const auto& path :
       {std::string(dbus::kRootPath), dbus::volume_path(volume), dbus::job_path(*job),
        dbus::provider_path("local"), dbus::key_path(engine->keys().front().record.id)})
    EXPECT_THAT(tree.out, HasSubstr(path + "\n"));
}

TEST_F(BusctlTest, IntrospectShowsMethodsPropertiesAndValues) {
  engine->add_volume("vol-a");
  const auto shown = busctl({"introspect", dbus::kBusName, dbus::kRootPath});
  EXPECT_EQ(shown.status, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr(".UnlockMany"));
  EXPECT_THAT(shown.out, HasSubstr(".NVolumes"));
  EXPECT_THAT(shown.out, HasSubstr("org.freedesktop.DBus.ObjectManager"));
}

TEST_F(BusctlTest, CallUnlocksWithoutLookingUpPaths) {
  const auto a = engine->add_volume("vol-a");
  const auto b = engine->add_volume("vol-b");
  const auto call = busctl({"call", dbus::kBusName, dbus::kRootPath, dbus::kManagerInterface,
                            "UnlockMany", "asa{sv}", "2", "vol-a", "vol-b", "0"});
  EXPECT_EQ(call.status, 0) << call.err;
  EXPECT_EQ(call.out, "o \"/org/coffer/Agent1/job/1\"\n");
  EXPECT_EQ(wait_for_job("/org/coffer/Agent1/job/1"), "done");
  for (const auto& id : {a, b}) {
    const auto state = busctl(
        {"get-property", dbus::kBusName, dbus::volume_path(id), dbus::kVolumeInterface, "State"});
    EXPECT_EQ(state.out, "s \"unlocked\"\n");
  }
}

TEST_F(BusctlTest, AnErrorSaysWhatIsWrong) {
  const auto call = busctl({"call", dbus::kBusName, dbus::kRootPath, dbus::kManagerInterface,
                            "UnlockMany", "asa{sv}", "1", "nothing", "0"});
  EXPECT_NE(call.status, 0);
  EXPECT_THAT(call.err, HasSubstr("no volume nothing"));
}

TEST_F(BusctlTest, MonitorShowsTheUnlockAndNoSecret) {
  // As a child that ends by itself: it is killed once the job's Completed has been printed.
  const auto script = R"(busctl --address="$0" --no-pager monitor org.coffer.Agent1 |
    while read -r line; do echo "$line"; case "$line" in *Member=Completed*) exit 0;; esac; done)";
  engine->add_volume("vol-a");
  // The unlock is asked for again until the monitor, which starts meanwhile, has seen one complete.
  const auto again = loop->every(std::chrono::milliseconds(100),
                                 [&] { static_cast<void>(engine->unlock({}, {}, {})); });
  const auto shown = run_command(*loop, {"/bin/sh", "-c", script, bus_.address()});
  EXPECT_EQ(shown.status, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("Member=Completed"));
  EXPECT_THAT(shown.out, HasSubstr("Interface=org.coffer.Agent1.Job"));
}

class GdbusTest : public ToolsTest {
 protected:
  void SetUp() override {
    ToolsTest::SetUp();
    if (!IsSkipped() && !python_has_gi()) GTEST_SKIP() << "python3-gi is not installed";
  }
};

TEST_F(GdbusTest, AnObjectManagerClientListsVolumesAndFollowsAnUnlock) {
  engine->add_volume("vol-a");
  engine->add_volume("vol-b", VolumeState::kUnlocked);
  const auto followed = python("follow_unlock.py", {"vol-a"});
  EXPECT_EQ(followed.status, 0) << followed.out << followed.err;
  EXPECT_THAT(followed.out, HasSubstr("volume vol-a locked\nvolume vol-b unlocked\n"));
  EXPECT_THAT(followed.out, HasSubstr("states unlocking unlocked\n"));
  EXPECT_THAT(followed.out, HasSubstr("job announced (True, "));
}

TEST_F(GdbusTest, AThousandVolumesTakeLessThan2KiBEach) {
  for (int i = 0; i < 1000; ++i) {
    const auto id = engine->add_volume("customer-volume-" + std::to_string(i));
    engine->change_volume(id, [](auto& volume) {
      volume.last_error = Error(Reason::kHsmAbsent, "the token cannot be reached: no slot");
      volume.state_reason = "opened at boot";
      volume.owned_keyslots = {0};
      volume.foreign_keyslots = {1, 2};
    });
  }
  const auto printed = python("managed_objects_size.py", {});
  ASSERT_EQ(printed.status, 0) << printed.err;
  std::size_t volumes = 0;
  std::size_t bytes = 0;
  ASSERT_EQ(std::sscanf(printed.out.c_str(), "%zu %zu", &volumes, &bytes), 2);
  EXPECT_EQ(volumes, 1000U);
  EXPECT_LT(bytes / volumes, 2048U);
  RecordProperty("bytes_per_volume", std::to_string(bytes / volumes));
}

}  // namespace
}  // namespace coffer::tests
