// SPDX-License-Identifier: Apache-2.0
// Who may do what: callers that are not root, polkit in every mood, callers that leave.
#include "core/base/sealed_secret.h"
#include "core/keyring/caller_blob.h"
#include "dbus/actions.h"
#include "dbus/paths.h"
#include "tests/integration/dbus/dbus_fixture.h"
#include "tests/integration/dbus/interface_xml.h"

namespace coffer::tests {
namespace {

using Says = FakePolkit::Says;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr const char* kDenied = "org.freedesktop.DBus.Error.AccessDenied";

class AuthorizationTest : public DbusTest {
 protected:
  void SetUp() override {
    service_options.authorization.silent = std::chrono::milliseconds(300);
    DbusTest::SetUp();
    if (IsSkipped()) return;
    nobody = make_nobody();
    if (!nobody || !nobody->connected()) GTEST_SKIP() << "needs root to call as another user";
    a = engine->add_volume("vol-a");
    b = engine->add_volume("vol-b");
  }
  void TearDown() override {
    nobody.reset();
    DbusTest::TearDown();
  }

  // Every method of the API on an object that exists, with arguments that are right.
  struct Attempt {
    std::string path;
    const char* interface;
    const char* member;
    BusClient::Fill fill;
  };
  std::vector<Attempt> every_method() {
    const auto volume = dbus::volume_path(a);
    const auto job = dbus::job_path(*engine->verify({a}, {}));
    const auto text = [](const char* value) {
      return [value](sd_bus_message* m) { return ::sd_bus_message_append(m, "s", value); };
    };
    const auto named = [](const char* value) {
      return [value](sd_bus_message* m) { return ::sd_bus_message_append(m, "sa{sv}", value, 0); };
    };
    const auto page = [](sd_bus_message* m) { return ::sd_bus_message_append(m, "uu", 0U, 9U); };
    const auto nothing = [](sd_bus_message*) { return 0; };
    std::vector<Attempt> all;
    for (const char* m : {"UnlockMany", "LockMany", "VerifyMany"})
      all.push_back({dbus::kRootPath, dbus::kManagerInterface, m, specs({"vol-a"})});
    for (const char* m : {"ListVolumes", "UnlockAll", "LockAll", "Scan"})
      all.push_back({dbus::kRootPath, dbus::kManagerInterface, m, no_options});
    for (const char* m : {"Provision", "Adopt"})
      all.push_back({dbus::kRootPath, dbus::kManagerInterface, m, named("/dev/sdz")});
    all.push_back({dbus::kRootPath, dbus::kManagerInterface, "GetVolume", text("vol-a")});
    all.push_back({dbus::kRootPath, dbus::kManagerInterface, "ListJobs", nothing});
    for (const char* m : {"Unlock", "Lock", "Verify", "Forget"})
      all.push_back({volume, dbus::kVolumeInterface, m, no_options});
    all.push_back({job, dbus::kJobInterface, "Cancel", no_options});
    for (const char* m : {"GetResults", "GetDetails"})
      all.push_back({job, dbus::kJobInterface, m, page});
    all.push_back({dbus::provider_path("local"), dbus::kKeyProviderInterface, "Test", no_options});
    all.push_back({dbus::kRootPath, dbus::kAuditInterface, "Query",
                   [](auto* m) { return ::sd_bus_message_append(m, "a{sv}u", 0, 9U); }});
    all.push_back({dbus::kRootPath, dbus::kAuditInterface, "Verify", [](auto* m) {
                     return ::sd_bus_message_append(m, "tt", std::uint64_t{0}, std::uint64_t{0});
                   }});
    all.push_back({dbus::kRootPath, dbus::kKeyringInterface, "ListKeys", no_options});
    all.push_back({dbus::kRootPath, dbus::kKeyringInterface, "GetKey", text("default")});
    all.push_back({dbus::kRootPath, dbus::kKeyringInterface, "CreateKey", named("stolen")});
    add_methods_of_keys(all);
    return all;
  }
  void add_methods_of_keys(std::vector<Attempt>& all) {
    const auto id = engine->keys().front().record.id;
    const auto key = dbus::key_path(id);
    const auto blob = keyring::CallerBlob{
        keyring::Purpose::kData,
        4,
        {keyring::KekProfile::kAesGcm, id, 1, Bytes(12), Bytes(4),
         Bytes(16)}}.encode();
    const auto add = [&](const std::string& path, const char* interface, const char* member,
                         const BusClient::Fill& arguments) {
      all.push_back({path, interface, member, [arguments](sd_bus_message* m) {
                       const int r = arguments(m);
                       return r < 0 ? r : no_options(m);
                     }});
    };
    const auto no_map = [](sd_bus_message* m) { return ::sd_bus_message_append(m, "a{ss}", 0); };
    const auto number = [](sd_bus_message* m) { return ::sd_bus_message_append(m, "u", 30U); };
    const auto bytes = [](sd_bus_message* m) { return dbus::append_bytes(m, Bytes(32)); };
    const auto file = [fd = sealed.get()](sd_bus_message* m) {
      return ::sd_bus_message_append_basic(m, 'h', &fd);
    };
    for (const char* m : {"Enable", "Disable", "Archive", "CancelArchive", "CancelDeletion",
                          "Rotate", "RewrapAll", "Describe", "PrepareImport", "DeleteMaterial"})
      all.push_back({key, dbus::kKeyInterface, m, no_options});
    for (const char* m : {"ScheduleDeletion", "SetRotation", "DestroyVersion"})
      add(key, dbus::kKeyInterface, m, number);
    for (const char* m : {"Bind", "Unbind"})
      add(key, dbus::kKeyInterface, m, [](sd_bus_message* call) {
        return ::sd_bus_message_append(call, "s", "backup:nightly");
      });
    all.push_back({key, dbus::kKeyInterface, "ListBindings", no_options});
    all.push_back({dbus::kRootPath, dbus::kKeyringInterface, "CountKeys", no_options});
    add(dbus::kRootPath, dbus::kKeyringInterface, "GenerateRandom", number);
    add(dbus::kRootPath, dbus::kKeyringInterface, "ChangeMany", [=](sd_bus_message* m) {
      return ::sd_bus_message_append(m, "sao", "enable", 1, key.c_str());
    });
    for (const char* m : {"Sign", "DecryptAsymmetric"}) add(key, dbus::kKeyInterface, m, bytes);
    add(key, dbus::kKeyInterface, "SetTags", no_map);
    all.push_back({key, dbus::kKeyInterface, "ListVolumes", [](sd_bus_message*) { return 0; }});
    add(key, dbus::kKeyInterface, "ImportMaterial", [=](sd_bus_message* m) {
      const int r = bytes(m);
      return r < 0 ? r : file(m);
    });
    add(key, dbus::kKeyInterface, "Encrypt", [=](sd_bus_message* m) {
      const int r = file(m);
      return r < 0 ? r : no_map(m);
    });
    add(key, dbus::kKeyInterface, "GenerateDataKey", [=](sd_bus_message* m) {
      const int r = number(m);
      return r < 0 ? r : no_map(m);
    });
    add(dbus::kRootPath, dbus::kKeyringInterface, "Decrypt", [=](sd_bus_message* m) {
      const int r = dbus::append_bytes(m, blob);
      return r < 0 ? r : no_map(m);
    });
    add(dbus::kRootPath, dbus::kKeyringInterface, "ReEncrypt", [=](sd_bus_message* m) {
      int r = dbus::append_bytes(m, blob);
      if (r >= 0) r = no_map(m);
      if (r >= 0) r = ::sd_bus_message_append(m, "s", "");
      return r < 0 ? r : no_map(m);
    });
  }

  Answer unlock_as_nobody(const VolumeId& id, bool interactive = false) {
    return nobody->call(dbus::volume_path(id), dbus::kVolumeInterface, "Unlock", no_options,
                        interactive);
  }

  UniqueFd sealed = *seal_secret(*SecretBytes::random(16));
  std::unique_ptr<BusClient> nobody;
  VolumeId a{Uuid()};
  VolumeId b{Uuid()};
};

TEST_F(AuthorizationTest, WithoutPolkitsWordNoMethodDoesAnything) {
  const auto attempts = every_method();
  EXPECT_EQ(attempts.size(), dbus::method_actions().size());
  const auto effects = engine->effects();
  for (const auto says : {Says::kNo, Says::kError}) {
    polkit->always(says);
    for (const auto& attempt : attempts) {
      const auto answer =
          nobody->call(attempt.path, attempt.interface, attempt.member, attempt.fill);
      EXPECT_EQ(answer.error, kDenied) << attempt.interface << "." << attempt.member;
    }
  }
  EXPECT_EQ(engine->effects(), effects);
  EXPECT_THAT(engine->refusals(), SizeIs(2 * attempts.size()));
}

TEST_F(AuthorizationTest, EachMethodAsksForTheActionOfItsRow) {
  for (const auto& attempt : every_method()) {
    const auto asked = polkit->questions().size();
    nobody->call(attempt.path, attempt.interface, attempt.member, attempt.fill);
    ASSERT_GT(polkit->questions().size(), asked) << attempt.member;
    const auto& question = polkit->questions()[asked];
    const auto* row = dbus::find_method_action(attempt.interface, attempt.member);
    const std::string wanted =
        row->action == std::string(dbus::kActionOfTheJob) ? dbus::kActionVerify : row->action;
    EXPECT_EQ(question.action, wanted) << attempt.member;
    EXPECT_EQ(question.subject_kind, "system-bus-name");
    EXPECT_EQ(question.subject_name, nobody->unique_name());
    EXPECT_FALSE(question.details.at("operation").empty());
  }
}

TEST_F(AuthorizationTest, PolkitThatIsAbsentDenies) {
  polkit->leave();
  run_until(*loop, [] { return true; });
  EXPECT_EQ(unlock_as_nobody(a).error, kDenied);
  EXPECT_THAT(engine->effects(), IsEmpty());
}

TEST_F(AuthorizationTest, PolkitThatDoesNotAnswerDeniesInTime) {
  polkit->always(Says::kNothing);
  EXPECT_EQ(unlock_as_nobody(a).error, kDenied);
  EXPECT_THAT(engine->effects(), IsEmpty());
}

TEST_F(AuthorizationTest, RootPassesWithoutPolkit) {
  EXPECT_TRUE(admin->manager("UnlockMany", specs({"vol-a"})).ok());
  EXPECT_THAT(polkit->questions(), IsEmpty());
  EXPECT_EQ(engine->last_caller().polkit_action, "");
}

TEST_F(AuthorizationTest, ARuleMayAllowOneVolumeAlone) {
  polkit->decide([this](const FakePolkit::Question& question) {
    const auto at = question.details.find("volume.uuid");
    return at != question.details.end() && at->second == a.str() ? Says::kYes : Says::kNo;
  });
  EXPECT_TRUE(unlock_as_nobody(a).ok());
  EXPECT_EQ(unlock_as_nobody(b).error, kDenied);
  EXPECT_TRUE(nobody->manager("UnlockMany", specs({"vol-a"})).ok());
  EXPECT_EQ(nobody->manager("UnlockMany", specs({"vol-a", "vol-b"})).error, kDenied);
  EXPECT_EQ(nobody->manager("UnlockAll", no_options).error, kDenied);
  EXPECT_THAT(engine->effects(), ElementsAre("unlock vol-a", "unlock vol-a"));
  EXPECT_EQ(engine->last_caller().polkit_action, dbus::kActionUnlock);
  EXPECT_EQ(engine->last_caller().uid, kNobody);
}

TEST_F(AuthorizationTest, PolkitSeesTheDetailsOfTheVolume) {
  unlock_as_nobody(a);
  ASSERT_THAT(polkit->questions(), SizeIs(1));
  const auto& details = polkit->questions().front().details;
  EXPECT_EQ(details.at("volume.uuid"), a.str());
  EXPECT_EQ(details.at("volume.name"), "vol-a");
  EXPECT_EQ(details.at("device"), engine->volume(a)->device);
  EXPECT_EQ(details.at("cmk"), engine->keys().front().record.id.str());
  EXPECT_EQ(details.at("operation"), "unlock");
}

TEST_F(AuthorizationTest, PolkitSeesHowAKeyIsChanged) {
  const auto key = engine->keys().front().record.id;
  const auto details = [&](const char* member, std::uint32_t number, bool force) {
    nobody->call(dbus::key_path(key), dbus::kKeyInterface, member, [&](sd_bus_message* m) {
      const int r = ::sd_bus_message_append(m, "u", number);
      if (r < 0 || !force) return r < 0 ? r : no_options(m);
      return ::sd_bus_message_append(m, "a{sv}", 1, "force", "b", 1);
    });
    return polkit->questions().back().details;
  };
  const auto version = details("DestroyVersion", 3, true);
  EXPECT_EQ(version.at("version"), "3");
  EXPECT_EQ(version.at("force"), "true");
  EXPECT_FALSE(version.contains("days"));
  const auto deletion = details("ScheduleDeletion", 9, false);
  EXPECT_EQ(deletion.at("days"), "9");
  EXPECT_FALSE(deletion.contains("force"));
  EXPECT_EQ(details("SetRotation", 90, false).at("days"), "90");
}

TEST_F(AuthorizationTest, AKeyWhoseVolumesGrowMeanwhileIsNotTakenByForce) {
  const auto key = engine->keys().front().record.id;
  polkit->always(Says::kYes);
  const auto disable = [&](bool force, bool grows) {
    polkit->hold();
    const auto answer = std::make_shared<Answer>();
    const auto asked = polkit->questions().size();
    nobody->start(
        dbus::key_path(key), dbus::kKeyInterface, "Disable",
        [&](sd_bus_message* m) {
          return force ? ::sd_bus_message_append(m, "a{sv}", 1, "force", "b", 1) : no_options(m);
        },
        answer);
    EXPECT_TRUE(run_until(*loop, [&] { return polkit->questions().size() > asked; }));
    if (grows) engine->add_volume("vol-c");
    polkit->let_go();
    EXPECT_TRUE(run_until(*loop, [&] { return answer->message != nullptr; }));
    return answer->error;
  };
  EXPECT_EQ(disable(true, true), "org.coffer.Agent1.Error.InProgress");
  EXPECT_EQ(disable(true, false), "");
}

TEST_F(AuthorizationTest, EachKeyOfACallIsLookedAtAgainOnItsTurn) {
  engine->add_key("second");
  const auto keys = engine->keys();
  // The volume that comes meanwhile uses the first of them: it is changed last.
  const auto last = dbus::key_path(keys.front().record.id);
  const auto before = dbus::key_path(keys.back().record.id);
  polkit->always(Says::kYes);
  engine->hold();
  const auto answer = std::make_shared<Answer>();
  nobody->start(
      dbus::kRootPath, dbus::kKeyringInterface, "ChangeMany",
      [&](sd_bus_message* m) {
        return ::sd_bus_message_append(m, "saoa{sv}", "disable", 2, before.c_str(), last.c_str(), 1,
                                       "force", "b", 1);
      },
      answer);
  ASSERT_TRUE(run_until(*loop, [&] { return engine->effects().size() == 1; }));
  engine->add_volume("vol-c");
  engine->release();
  ASSERT_TRUE(run_until(*loop, [&] { return answer->message != nullptr; }));
  ASSERT_TRUE(answer->ok()) << answer->text;
  std::vector<std::string> errors;
  const char *object, *error, *text;
  ::sd_bus_message_enter_container(answer->message.get(), 'a', "(oss)");
  while (::sd_bus_message_read(answer->message.get(), "(oss)", &object, &error, &text) > 0)
    errors.emplace_back(error);
  EXPECT_THAT(errors, ElementsAre("", "org.coffer.Agent1.Error.InProgress"));
  EXPECT_THAT(engine->effects(), SizeIs(1));
  ASSERT_THAT(engine->refusals(), SizeIs(1));
  EXPECT_EQ(engine->refusals().front().operation, "key.disable");
  EXPECT_EQ(engine->refusals().front().object, keys.front().record.id.str());
}

TEST_F(AuthorizationTest, BothKeysOfAReencryptionAreLookedAtAgain) {
  const auto first = engine->keys().front().record.id;
  const auto second = engine->add_key("second");
  const auto third = engine->add_key("third");
  polkit->always(Says::kYes);
  const auto plain = *seal_secret(*SecretBytes::copy_of(as_bytes("moved")));
  const auto encrypted =
      nobody->call(dbus::key_path(first), dbus::kKeyInterface, "Encrypt", [&](sd_bus_message* m) {
        const int fd = plain.get();
        return ::sd_bus_message_append(m, "ha{ss}a{sv}", fd, 0, 0);
      });
  ASSERT_TRUE(encrypted.ok()) << encrypted.text;
  const void* blob = nullptr;
  std::size_t size = 0;
  ASSERT_GT(::sd_bus_message_read_array(encrypted.message.get(), 'y', &blob, &size), 0);
  const auto reencrypt = [&](const std::function<void()>& meanwhile) {
    polkit->hold();
    const auto asked = polkit->questions().size();
    const auto answer = std::make_shared<Answer>();
    nobody->start(
        dbus::kRootPath, dbus::kKeyringInterface, "ReEncrypt",
        [&](sd_bus_message* m) {
          const int r = ::sd_bus_message_append_array(m, 'y', blob, size);
          return r < 0 ? r : ::sd_bus_message_append(m, "a{ss}sa{ss}a{sv}", 0, "second", 0, 0);
        },
        answer);
    EXPECT_TRUE(run_until(*loop, [&] { return polkit->questions().size() > asked; }));
    meanwhile();
    polkit->let_go();
    // The second question comes behind the first one's answer.
    EXPECT_TRUE(run_until(*loop, [&] {
      polkit->let_go();
      return answer->message != nullptr;
    }));
    return answer->error;
  };
  const auto rename = [&](const CmkId& id) {
    return [this, id] { engine->change_record(id, [](auto& record) { record.alias += "-now"; }); };
  };
  EXPECT_EQ(reencrypt(rename(third)), "") << "which has no part in it";
  EXPECT_EQ(reencrypt(rename(second)), "org.coffer.Agent1.Error.InProgress");
  engine->change_record(second, [](auto& record) { record.alias = "second"; });
  EXPECT_EQ(reencrypt(rename(first)), "org.coffer.Agent1.Error.InProgress");
}

TEST_F(AuthorizationTest, ADecisionIsNeverRemembered) {
  polkit->always(Says::kYes);
  EXPECT_TRUE(unlock_as_nobody(a).ok());
  polkit->always(Says::kNo);
  EXPECT_EQ(unlock_as_nobody(a).error, kDenied);
  EXPECT_THAT(polkit->questions(), SizeIs(2));
}

TEST_F(AuthorizationTest, APasswordIsAskedForOnlyWhereTheCallerAllowsIt) {
  polkit->always(Says::kChallenge);
  EXPECT_EQ(unlock_as_nobody(a).error,
            "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired");
  EXPECT_FALSE(polkit->questions().back().interactive);

  EXPECT_EQ(unlock_as_nobody(a, true).error, kDenied);
  EXPECT_TRUE(polkit->questions().back().interactive);

  nobody->call(
      dbus::volume_path(a), dbus::kVolumeInterface, "Unlock",
      [](auto* m) {
        return ::sd_bus_message_append(m, "a{sv}", 1, "auth.no_user_interaction", "b", 1);
      },
      true);
  EXPECT_FALSE(polkit->questions().back().interactive);
  EXPECT_THAT(engine->effects(), IsEmpty());
}

TEST_F(AuthorizationTest, ACallerThatLeavesMeanwhileGetsNothing) {
  polkit->always(Says::kYes);
  polkit->hold();
  const auto ignored = std::make_shared<Answer>();
  nobody->start(dbus::volume_path(a), dbus::kVolumeInterface, "Unlock", no_options, ignored);
  ASSERT_TRUE(run_until(*loop, [&] { return !polkit->questions().empty(); }));
  nobody->leave();
  ASSERT_TRUE(run_until(*loop, [&] { return !engine->refusals().empty(); }));
  polkit->let_go();
  EXPECT_TRUE(admin->manager("ListJobs").ok());  // The service is alive, and past the answer.
  EXPECT_THAT(engine->effects(), IsEmpty());
  EXPECT_THAT(polkit->cancelled(), ElementsAre(polkit->questions().front().cancel_id));
}

TEST_F(AuthorizationTest, AVolumeThatChangesMeanwhileIsNotOpened) {
  polkit->always(Says::kYes);
  polkit->hold();
  const auto answer = std::make_shared<Answer>();
  nobody->start(dbus::volume_path(a), dbus::kVolumeInterface, "Unlock", no_options, answer);
  ASSERT_TRUE(run_until(*loop, [&] { return !polkit->questions().empty(); }));
  engine->change_volume(a, [](auto& volume) { volume.device = "/dev/disk/by-id/other"; });
  polkit->let_go();
  ASSERT_TRUE(run_until(*loop, [&] { return answer->message != nullptr; }));
  EXPECT_EQ(answer->error, "org.coffer.Agent1.Error.DeviceChanged");
  EXPECT_THAT(engine->effects(), IsEmpty());
}

TEST_F(AuthorizationTest, AVolumeThatGoesMeanwhileIsNotFound) {
  polkit->always(Says::kYes);
  polkit->hold();
  const auto answer = std::make_shared<Answer>();
  nobody->start(dbus::volume_path(a), dbus::kVolumeInterface, "Unlock", no_options, answer);
  ASSERT_TRUE(run_until(*loop, [&] { return !polkit->questions().empty(); }));
  engine->remove_volume(a);
  polkit->let_go();
  ASSERT_TRUE(run_until(*loop, [&] { return answer->message != nullptr; }));
  EXPECT_EQ(answer->error, "org.coffer.Agent1.Error.NoSuchVolume");
}

TEST_F(AuthorizationTest, MalformedCallsAreRecorded) {
  nobody->call(dbus::volume_path(a), dbus::kVolumeInterface, "Unlock", [](auto* m) {
    return ::sd_bus_message_append(m, "a{sv}", 1, "passphrase", "s", "x");
  });
  ASSERT_THAT(engine->refusals(), SizeIs(1));
  EXPECT_EQ(engine->refusals().front().reason, Reason::kInvalidArgs);
  EXPECT_EQ(engine->refusals().front().operation, "volume.unlock");
  EXPECT_EQ(engine->refusals().front().caller.uid, kNobody);
  EXPECT_THAT(polkit->questions(), IsEmpty());
}

TEST_F(AuthorizationTest, PropertiesAreReadOnlyForEverybody) {
  EXPECT_EQ(nobody->text_property(dbus::volume_path(a), dbus::kVolumeInterface, "State"), "locked");
  const auto set =
      admin->call(dbus::volume_path(a), "org.freedesktop.DBus.Properties", "Set", [](auto* m) {
        return ::sd_bus_message_append(m, "ssv", dbus::kVolumeInterface, "State", "s", "unlocked");
      });
  EXPECT_EQ(set.error, "org.freedesktop.DBus.Error.PropertyReadOnly");
}

TEST(BusPolicyTest, OnlyTheAgentsUserOwnsTheNameAndEverybodyMaySend) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to call as another user";
  const PrivateBus bus(PrivateBus::Policy::kAsSystem);
  if (!bus.problem().empty()) GTEST_SKIP() << bus.problem();
  const auto loop = std::move(*ipc::EventLoop::make());
  SimEngine engine(*loop);
  dbus::ServiceOptions options;
  options.address = bus.address();
  const auto service = std::move(*dbus::Service::start(*loop, engine, options));
  ASSERT_TRUE(run_until(*loop, [&] { return service->owns_name(); }));

  BusClient nobody(*loop, bus.address(), kNobody);
  EXPECT_EQ(::sd_bus_request_name(nobody.bus(), dbus::kBusName, 0), -EACCES);
  // The call arrives: it is the agent that refuses, for want of a polkit.
  const auto answer = nobody.manager("ListJobs");
  EXPECT_EQ(answer.error, kDenied);
  EXPECT_THAT(answer.text, testing::HasSubstr("polkit"));
  EXPECT_EQ(nobody.number_property(dbus::kRootPath, dbus::kManagerInterface, "NVolumes"), 0U);
}

}  // namespace
}  // namespace coffer::tests
