// SPDX-License-Identifier: Apache-2.0
// Floods, hostile arguments, callers that vanish, a bus that goes away, a thousand volumes.
#include <random>

#include "dbus/paths.h"
#include "tests/integration/dbus/dbus_fixture.h"

namespace coffer::tests {
namespace {

using agent::VolumeState;
using testing::IsEmpty;

constexpr const char* kLimits = "org.freedesktop.DBus.Error.LimitsExceeded";

class RobustnessTest : public DbusTest {
 protected:
  using Answers = std::vector<std::shared_ptr<Answer>>;
  bool wait_for_all(const Answers& answers) {
    return run_until(*loop, [&] {
      return std::all_of(answers.begin(), answers.end(), [](const auto& answer) {
        return answer->message != nullptr || !answer->error.empty();
      });
    });
  }
};

TEST_F(RobustnessTest, Of129ConcurrentCallsEachIsAnsweredOrRefused) {
  for (int i = 0; i < 4; ++i) engine->add_volume("vol-" + std::to_string(i));
  // Calls that the engine answers only later, so that all wait together.
  engine->hold();
  Answers answers;
  for (int i = 0; i < 129; ++i) {
    answers.push_back(std::make_shared<Answer>());
    admin->start(
        dbus::kRootPath, dbus::kKeyringInterface, "CreateKey",
        [i](auto* m) {
          return ::sd_bus_message_append(m, "sa{sv}", ("k" + std::to_string(i)).c_str(), 0);
        },
        answers.back());
  }
  const auto refused = [&] {
    return std::count_if(answers.begin(), answers.end(),
                         [](const auto& answer) { return !answer->error.empty(); });
  };
  ASSERT_TRUE(run_until(*loop, [&] { return refused() > 0; }));
  engine->release();
  ASSERT_TRUE(wait_for_all(answers));
  int good = 0;
  for (const auto& answer : answers) {
    if (answer->ok()) ++good;
    if (!answer->ok()) {
      EXPECT_THAT(answer->error, testing::EndsWith("LimitsExceeded"));
    }
  }
  EXPECT_EQ(good, 128);
  EXPECT_EQ(refused(), 1);
}

TEST_F(RobustnessTest, A129thUnlockIsAnsweredToo) {
  std::vector<std::string> names;
  names.reserve(129);
  for (int i = 0; i < 129; ++i) names.push_back("vol-" + std::to_string(i));
  for (const auto& name : names) engine->add_volume(name);
  Answers answers;
  for (const auto& name : names) {
    answers.push_back(std::make_shared<Answer>());
    admin->start(dbus::kRootPath, dbus::kManagerInterface, "UnlockMany", specs({name}),
                 answers.back());
  }
  ASSERT_TRUE(wait_for_all(answers));
  for (const auto& answer : answers) EXPECT_TRUE(answer->ok() || answer->error == kLimits);
}

TEST_F(RobustnessTest, AJobGoesOnWhenItsCallerVanishes) {
  const auto id = engine->add_volume("vol-a");
  engine->hold();
  auto caller = std::make_unique<BusClient>(*loop, bus_.address());
  const auto path = caller->manager("UnlockMany", specs({"vol-a"})).path();
  caller.reset();
  engine->release();
  EXPECT_EQ(wait_for_job(path), "done");
  EXPECT_EQ(engine->volume(id)->state, VolumeState::kUnlocked);
}

TEST_F(RobustnessTest, ACallThatTheEngineAnswersLateMayLoseItsCaller) {
  engine->hold();
  auto caller = std::make_unique<BusClient>(*loop, bus_.address());
  caller->start(
      dbus::kRootPath, dbus::kKeyringInterface, "CreateKey",
      [](auto* m) { return ::sd_bus_message_append(m, "sa{sv}", "late", 0); },
      std::make_shared<Answer>());
  ASSERT_TRUE(run_until(*loop, [&] { return !engine->effects().empty(); }));
  caller.reset();
  engine->release();
  ASSERT_TRUE(run_until(*loop, [&] { return engine->key("late").has_value(); }));
  EXPECT_TRUE(admin->manager("ListJobs").ok());
}

TEST_F(RobustnessTest, TheBusMayRestart) {
  const auto id = engine->add_volume("vol-a");
  engine->hold();
  const auto path = admin->manager("UnlockMany", specs({"vol-a"})).path();
  for (std::uint32_t round = 1; round <= 3; ++round) {
    admin.reset();
    bus_.stop();
    ASSERT_TRUE(run_until(*loop, [&] { return !service->owns_name(); }));
    bus_.start();
    ASSERT_TRUE(run_until(*loop, [&] { return service->owns_name(); }));
    EXPECT_EQ(service->connections(), round + 1);
    admin = std::make_unique<BusClient>(*loop, bus_.address());
    EXPECT_EQ(admin->text_property(path, dbus::kJobInterface, "State"), "queued");
  }
  engine->release();
  EXPECT_EQ(wait_for_job(path), "done");
  EXPECT_EQ(admin->text_property(dbus::volume_path(id), dbus::kVolumeInterface, "State"),
            "unlocked");
}

TEST_F(RobustnessTest, TheServiceWaitsForABusThatIsNotThereYet) {
  service.reset();
  admin.reset();
  bus_.stop();
  service = std::move(*dbus::Service::start(*loop, *engine, service_options));
  run_until(*loop, [] { return false; }, std::chrono::seconds(0));
  EXPECT_FALSE(service->owns_name());
  bus_.start();
  ASSERT_TRUE(run_until(*loop, [&] { return service->owns_name(); }));
}

TEST_F(RobustnessTest, ANameThatAnotherHasIsTakenWhenItIsFree) {
  service.reset();
  auto other = std::make_unique<BusClient>(*loop, bus_.address());
  ASSERT_GE(::sd_bus_request_name(other->bus(), dbus::kBusName, 0), 0);
  std::string event;
  service_options.on_event = [&](const std::string& text) { event = text; };
  service = std::move(*dbus::Service::start(*loop, *engine, service_options));
  ASSERT_TRUE(run_until(*loop, [&] { return !event.empty(); }));
  EXPECT_THAT(event, testing::HasSubstr("another process has the name"));
  other.reset();
  EXPECT_TRUE(run_until(*loop, [&] { return service->owns_name(); }));
}

TEST_F(RobustnessTest, AFloodOfOneUserDoesNotReachTheEngine) {
  service.reset();
  service_options.limits.calls_per_second = 1;
  service_options.limits.burst = 5;
  start_service();
  auto nobody = make_nobody();
  if (!nobody) GTEST_SKIP() << "needs root to call as another user";
  polkit->always(FakePolkit::Says::kYes);
  engine->add_volume("vol-a");
  int answered = 0;
  int limited = 0;
  for (int i = 0; i < 20; ++i) {
    const auto answer = nobody->manager("VerifyMany", specs({"vol-a"}));
    if (answer.ok()) ++answered;
    if (answer.error == "org.coffer.Agent1.Error.RateLimited") ++limited;
  }
  EXPECT_EQ(answered + limited, 20);
  EXPECT_LE(answered, 7);
  // Nobody else pays for it.
  EXPECT_TRUE(admin->manager("VerifyMany", specs({"vol-a"})).ok());
}

TEST_F(RobustnessTest, HugeArgumentsAreRefusedBeforeTheyAreKept) {
  const auto too_many = admin->manager("UnlockMany", [](auto* m) {
    int r = ::sd_bus_message_open_container(m, 'a', "s");
    for (int i = 0; i < 10'001 && r >= 0; ++i) r = ::sd_bus_message_append(m, "s", "x");
    if (r >= 0) r = ::sd_bus_message_close_container(m);
    return r < 0 ? r : no_options(m);
  });
  EXPECT_THAT(too_many.error, testing::EndsWith("Error.LimitsExceeded"));
  const auto too_long = admin->manager("UnlockMany", specs({std::string(5000, 'x')}));
  EXPECT_THAT(too_long.error, testing::EndsWith("Error.LimitsExceeded"));
  const auto too_large =
      admin->manager("UnlockMany", specs(std::vector<std::string>(300, std::string(4000, 'x'))));
  EXPECT_THAT(too_large.error, testing::EndsWith("Error.LimitsExceeded"));
  const auto too_many_options = admin->manager("Scan", [](auto* m) {
    int r = ::sd_bus_message_open_container(m, 'a', "{sv}");
    for (int i = 0; i < 40 && r >= 0; ++i)
      r = ::sd_bus_message_append(m, "{sv}", "reason", "s", "x");
    return r < 0 ? r : ::sd_bus_message_close_container(m);
  });
  EXPECT_FALSE(too_many_options.ok());
  EXPECT_THAT(engine->effects(), IsEmpty());
}

// A short form of the long hostile run: random members, paths and arguments from one user, and the
// agent neither dies nor does anything.
TEST_F(RobustnessTest, TenThousandHostileCallsChangeNothing) {
  auto nobody = make_nobody();
  if (!nobody) GTEST_SKIP() << "needs root to call as another user";
  const auto volume = engine->add_volume("vol-a");
  const std::vector<std::string> paths{dbus::kRootPath,
                                       dbus::volume_path(volume),
                                       dbus::provider_path("local"),
                                       "/org/coffer/Agent1/job",
                                       "/org/coffer/Agent1/volume/_",
                                       "/org/coffer/Agent1/job/0",
                                       "/org/coffer/Agent1/key/_2e_2e_2fetc",
                                       "/"};
  const std::vector<const char*> interfaces{dbus::kManagerInterface, dbus::kVolumeInterface,
                                            dbus::kKeyringInterface, dbus::kAuditInterface,
                                            "org.freedesktop.DBus.Properties"};
  const std::vector<const char*> members{"UnlockMany", "Unlock",    "LockAll",
                                         "Forget",     "CreateKey", "Query",
                                         "Set",        "Provision", "NoSuchMethod"};
  const std::vector<BusClient::Fill> fills{
      no_options,
      specs({"vol-a"}),
      specs({"../../etc/shadow", "%n%s", std::string(100, '\x01')}),
      [](auto* m) { return ::sd_bus_message_append(m, "sa{sv}", "/dev/../etc", 0); },
      [](auto* m) { return ::sd_bus_message_append(m, "a{sv}", 1, "force", "u", 7U); },
      [](auto* m) { return ::sd_bus_message_append(m, "a{sv}", 1, "reason", "v", "s", "x"); },
      [](auto* m) { return ::sd_bus_message_append(m, "tt", UINT64_MAX, std::uint64_t{0}); },
      [](auto* m) { return ::sd_bus_message_append(m, "a{sv}u", 1, "uid", "u", 0U, UINT32_MAX); },
      [](auto* m) { return ::sd_bus_message_append(m, "ssv", "", "", "u", 0U); },
      [](auto*) { return 0; }};
  std::mt19937 random(4711);
  const auto pick = [&](const auto& list) { return list[random() % list.size()]; };
  constexpr int kCalls = 10'000;
  constexpr int kTogether = 100;
  for (int sent = 0; sent < kCalls; sent += kTogether) {
    Answers answers;
    for (int i = 0; i < kTogether; ++i) {
      answers.push_back(std::make_shared<Answer>());
      nobody->start(pick(paths), pick(interfaces), pick(members), pick(fills), answers.back());
    }
    ASSERT_TRUE(wait_for_all(answers));
    for (const auto& answer : answers) ASSERT_FALSE(answer->ok());
  }
  EXPECT_THAT(engine->effects(), IsEmpty());
  EXPECT_TRUE(admin->manager("UnlockMany", specs({"vol-a"})).ok());
}

}  // namespace
}  // namespace coffer::tests
