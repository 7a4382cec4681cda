// SPDX-License-Identifier: Apache-2.0
// Each method does what its XML says, and each of its errors comes out by name.
#include "dbus/paths.h"
#include "tests/integration/dbus/dbus_fixture.h"

namespace coffer::tests {
namespace {

using agent::VolumeState;
using testing::Contains;
using testing::ElementsAre;

constexpr const char* kInvalidArgs = "org.freedesktop.DBus.Error.InvalidArgs";

std::string ours(const char* name) {
  return std::string(kDbusErrorPrefix) + name;
}

BusClient::Fill device(const std::string& path, const char* option = nullptr,
                       const std::string& value = "") {
  return [=](sd_bus_message* m) {
    const int r = ::sd_bus_message_append(m, "s", path.c_str());
    if (r < 0 || option == nullptr) return r < 0 ? r : no_options(m);
    return ::sd_bus_message_append(m, "a{sv}", 1, option, "s", value.c_str());
  };
}

BusClient::Fill flag(const char* option) {
  return [=](sd_bus_message* m) { return ::sd_bus_message_append(m, "a{sv}", 1, option, "b", 1); };
}

class MethodsTest : public DbusTest {
 protected:
  void SetUp() override {
    DbusTest::SetUp();
    if (IsSkipped()) return;
    a = engine->add_volume("vol-a");
    b = engine->add_volume("vol-b", VolumeState::kUnlocked);
  }
  Answer on_volume(const VolumeId& id, const char* method, const BusClient::Fill& fill) {
    return admin->call(dbus::volume_path(id), dbus::kVolumeInterface, method, fill);
  }
  VolumeState state_of(const VolumeId& id) const { return engine->volume(id)->state; }

  VolumeId a{Uuid()};
  VolumeId b{Uuid()};
};

TEST_F(MethodsTest, ListVolumesShowsAllAndFilters) {
  const auto rows = [](const Answer& answer) {
    std::vector<std::string> names;
    const char *uuid, *name, *state, *dev, *path;
    ::sd_bus_message_enter_container(answer.message.get(), 'a', "(sssso)");
    while (::sd_bus_message_read(answer.message.get(), "(sssso)", &uuid, &name, &state, &dev,
                                 &path) > 0)
      names.push_back(std::string(name) + " " + state);
    return names;
  };
  EXPECT_THAT(rows(admin->manager("ListVolumes", no_options)),
              testing::UnorderedElementsAre("vol-a locked", "vol-b unlocked"));
  EXPECT_THAT(rows(admin->manager("ListVolumes",
                                  [](auto* m) {
                                    return ::sd_bus_message_append(m, "a{sv}", 1, "state", "s",
                                                                   "unlocked");
                                  })),
              ElementsAre("vol-b unlocked"));
  EXPECT_EQ(admin->manager("ListVolumes", flag("state")).error, kInvalidArgs);
  EXPECT_EQ(admin->manager("ListVolumes", flag("dry-run")).error, kInvalidArgs);
}

TEST_F(MethodsTest, AVolumeIsFoundByUuidNameAndDevice) {
  for (const auto& spec :
       {a.str(), std::string("vol-a"), engine->volume(a)->device, engine->volume(a)->device_node}) {
    EXPECT_EQ(admin
                  ->manager("GetVolume",
                            [&](auto* m) { return ::sd_bus_message_append(m, "s", spec.c_str()); })
                  .path(),
              dbus::volume_path(a));
  }
  EXPECT_EQ(
      admin
          ->manager("GetVolume", [](auto* m) { return ::sd_bus_message_append(m, "s", "nothing"); })
          .error,
      ours("NoSuchVolume"));
}

TEST_F(MethodsTest, TwoVolumesOfOneNameAreAmbiguous) {
  engine->add_volume("vol-a");
  EXPECT_EQ(admin->manager("UnlockMany", specs({"vol-a"})).error, ours("AmbiguousVolume"));
  EXPECT_THAT(engine->effects(), testing::IsEmpty());
}

TEST_F(MethodsTest, UnlockManyOpensWhatItNamesInOneJob) {
  engine->add_volume("vol-c");
  const auto job = admin->manager("UnlockMany", specs({"vol-c", "vol-a"}));
  ASSERT_TRUE(job.ok()) << job.error;
  EXPECT_EQ(wait_for_job(job.path()), "done");
  EXPECT_EQ(state_of(a), VolumeState::kUnlocked);
  EXPECT_THAT(engine->effects(), ElementsAre("unlock vol-c vol-a"));
}

TEST_F(MethodsTest, AVolumeNamedTwiceCountsOnce) {
  const auto job = admin->manager("UnlockMany", specs({"vol-a", a.str()}));
  ASSERT_TRUE(job.ok());
  EXPECT_EQ(admin->number_property(job.path(), dbus::kJobInterface, "Total"), 1U);
}

TEST_F(MethodsTest, AWrongNameAmongManyOpensNone) {
  EXPECT_EQ(admin->manager("UnlockMany", specs({"vol-a", "wrong"})).error, ours("NoSuchVolume"));
  EXPECT_EQ(admin->manager("LockMany", specs({"vol-b", "wrong"})).error, ours("NoSuchVolume"));
  EXPECT_EQ(admin->manager("VerifyMany", specs({"wrong"})).error, ours("NoSuchVolume"));
  EXPECT_EQ(admin->manager("UnlockMany", specs({})).error, kInvalidArgs);
  EXPECT_THAT(engine->effects(), testing::IsEmpty());
}

TEST_F(MethodsTest, UnlockAllTakesWhatIsAttached) {
  engine->add_volume("away", VolumeState::kAbsent);
  const auto job = admin->manager("UnlockAll", no_options);
  ASSERT_TRUE(job.ok()) << job.text;
  EXPECT_EQ(wait_for_job(job.path()), "done");
  EXPECT_EQ(admin->number_property(dbus::kRootPath, dbus::kManagerInterface, "NUnlocked"), 2U);
}

TEST_F(MethodsTest, UnlockAllWithNothingAttachedSaysSo) {
  engine->remove_volume(a);
  engine->remove_volume(b);
  EXPECT_EQ(admin->manager("UnlockAll", no_options).error, ours("DeviceAbsent"));
}

TEST_F(MethodsTest, LockAllClosesEverything) {
  const auto job = admin->manager("LockAll", no_options);
  ASSERT_TRUE(job.ok()) << job.text;
  EXPECT_EQ(wait_for_job(job.path()), "done");
  EXPECT_EQ(state_of(b), VolumeState::kLocked);
}

TEST_F(MethodsTest, AVolumesOwnMethodsWork) {
  EXPECT_EQ(wait_for_job(on_volume(a, "Unlock", no_options).path()), "done");
  EXPECT_EQ(state_of(a), VolumeState::kUnlocked);
  EXPECT_EQ(wait_for_job(on_volume(a, "Verify", no_options).path()), "done");
  EXPECT_EQ(wait_for_job(on_volume(a, "Lock", no_options).path()), "done");
  EXPECT_EQ(state_of(a), VolumeState::kLocked);
  EXPECT_TRUE(on_volume(a, "Forget", no_options).ok());
  EXPECT_FALSE(engine->volume(a));
  EXPECT_EQ(on_volume(a, "Unlock", no_options).error, "org.freedesktop.DBus.Error.UnknownObject");
}

TEST_F(MethodsTest, AnOpenVolumeIsNotForgotten) {
  EXPECT_EQ(on_volume(b, "Forget", no_options).error, ours("Busy"));
  EXPECT_TRUE(engine->volume(b));
}

TEST_F(MethodsTest, StrictRefusesWhatIsOpen) {
  // While it runs, the job has the volume unlocking.
  EXPECT_EQ(wait_for_job(on_volume(b, "Unlock", no_options).path()), "done");
  EXPECT_EQ(on_volume(b, "Unlock", flag("strict")).error, ours("AlreadyUnlocked"));
}

TEST_F(MethodsTest, ADryRunOpensNothing) {
  EXPECT_EQ(wait_for_job(on_volume(a, "Unlock", flag("dry-run")).path()), "done");
  EXPECT_EQ(state_of(a), VolumeState::kLocked);
}

TEST_F(MethodsTest, OptionsThatCannotBeHonouredAreRefused) {
  EXPECT_EQ(on_volume(a, "Lock", flag("dry-run")).error, ours("Unsupported"));
  EXPECT_EQ(on_volume(a, "Verify", flag("dry-run")).error, ours("Unsupported"));
  EXPECT_EQ(on_volume(a, "Forget", flag("dry-run")).error, ours("Unsupported"));
  EXPECT_EQ(on_volume(a, "Unlock", flag("no-such-option")).error, kInvalidArgs);
  EXPECT_EQ(on_volume(a, "Unlock", flag("reason")).error, kInvalidArgs);
  EXPECT_EQ(on_volume(a, "Lock",
                      [](auto* m) {
                        return ::sd_bus_message_append(m, "a{sv}", 2, "force", "b", 1, "deferred",
                                                       "b", 1);
                      })
                .error,
            kInvalidArgs);
  EXPECT_EQ(on_volume(a, "Unlock",
                      [](auto* m) {
                        return ::sd_bus_message_append(m, "a{sv}", 2, "strict", "b", 1, "strict",
                                                       "b", 0);
                      })
                .error,
            kInvalidArgs);
  EXPECT_THAT(engine->effects(), testing::IsEmpty());
}

TEST_F(MethodsTest, TheReasonReachesTheEngineAndIsBounded) {
  const auto with_reason = [](const std::string& reason) {
    return [reason](sd_bus_message* m) {
      return ::sd_bus_message_append(m, "a{sv}", 1, "reason", "s", reason.c_str());
    };
  };
  EXPECT_TRUE(on_volume(a, "Unlock", with_reason("ticket 4711")).ok());
  EXPECT_EQ(engine->last_caller().reason, "ticket 4711");
  EXPECT_EQ(engine->last_caller().bus_name, admin->unique_name());
  EXPECT_EQ(engine->last_caller().uid, ::geteuid());
  EXPECT_EQ(on_volume(a, "Unlock", with_reason(std::string(257, 'x'))).error,
            ours("LimitsExceeded"));
}

TEST_F(MethodsTest, ProvisionMakesAVolumeAndRefusesWhatIsWrong) {
  const auto job = admin->manager("Provision", device("/dev/disk/by-id/new", "name", "fresh"));
  ASSERT_TRUE(job.ok()) << job.text;
  EXPECT_EQ(wait_for_job(job.path()), "done");
  EXPECT_TRUE(engine->resolve("fresh"));
  EXPECT_EQ(admin->manager("Provision", device("/etc/passwd")).error, kInvalidArgs);
  EXPECT_EQ(admin->manager("Provision", device("/dev/x", "name", "fresh")).error,
            ours("NameTaken"));
  EXPECT_EQ(admin->manager("Provision", device("/dev/x", "key", "none")).error, ours("NoSuchKey"));
  engine->fail_volume("/dev/full", Error(Reason::kForeignData, "ext4; confirm with ABC"));
  const auto refused = admin->manager("Provision", device("/dev/full"));
  EXPECT_EQ(wait_for_job(refused.path()), "failed");
}

TEST_F(MethodsTest, AVolumeIsGivenOneKeyOrAListOfKeys) {
  engine->add_key("second");
  const auto provision = [&](const char* path, const std::vector<std::string>& keys,
                             std::uint32_t threshold, const char* key = nullptr) {
    return admin->manager("Provision", [&, path, threshold, key](sd_bus_message* m) {
      int r = ::sd_bus_message_append(m, "s", path);
      if (r >= 0) r = ::sd_bus_message_open_container(m, 'a', "{sv}");
      if (r >= 0) r = ::sd_bus_message_open_container(m, 'e', "sv");
      if (r >= 0) r = ::sd_bus_message_append(m, "s", "keys");
      if (r >= 0) r = ::sd_bus_message_open_container(m, 'v', "as");
      if (r >= 0) r = ::sd_bus_message_open_container(m, 'a', "s");
      for (const auto& one : keys)
        if (r >= 0) r = ::sd_bus_message_append(m, "s", one.c_str());
      for (int open = 0; open < 3; ++open)
        if (r >= 0) r = ::sd_bus_message_close_container(m);
      if (r >= 0) r = ::sd_bus_message_append(m, "{sv}", "threshold", "u", threshold);
      if (r >= 0 && key != nullptr) r = ::sd_bus_message_append(m, "{sv}", "key", "s", key);
      return r < 0 ? r : ::sd_bus_message_close_container(m);
    });
  };
  const auto made = provision("/dev/two", {"default", "second"}, 2);
  ASSERT_TRUE(made.ok()) << made.error << made.text;
  EXPECT_EQ(wait_for_job(made.path()), "done");
  EXPECT_EQ(provision("/dev/x", {"default", "none"}, 1).error, ours("NoSuchKey"));
  EXPECT_EQ(provision("/dev/x", {"default", "second"}, 3).error, kInvalidArgs);
  EXPECT_EQ(provision("/dev/x", {"default", "second"}, 0).error, kInvalidArgs);
  EXPECT_EQ(provision("/dev/x", {"default"}, 1, "second").error, kInvalidArgs);
  EXPECT_EQ(admin->manager("Provision", device("/dev/x", "keys", "default")).error, kInvalidArgs)
      << "a text is no list";
}

TEST_F(MethodsTest, AdoptAndScanMakeJobs) {
  EXPECT_EQ(wait_for_job(admin->manager("Adopt", device("/dev/disk/by-id/lost")).path()), "done");
  EXPECT_TRUE(engine->resolve("lost"));
  EXPECT_EQ(wait_for_job(admin->manager("Scan", no_options).path()), "done");
}

TEST_F(MethodsTest, AJobTellsEachVolumesResult) {
  engine->fail_volume("vol-b", Error(Reason::kHsmAbsent, "the token is gone"));
  const auto path = admin->manager("UnlockMany", specs({"vol-a", "vol-b"})).path();
  EXPECT_EQ(wait_for_job(path), "partial");

  const auto results = admin->call(path, dbus::kJobInterface, "GetResults", [](auto* m) {
    return ::sd_bus_message_append(m, "uu", 1U, 10U);
  });
  ASSERT_TRUE(results.ok()) << results.text;
  const char *uuid, *result, *error;
  std::uint64_t start = 0;
  std::uint64_t duration = 0;
  ::sd_bus_message_enter_container(results.message.get(), 'a', "(ssstt)");
  ASSERT_GT(::sd_bus_message_read(results.message.get(), "(ssstt)", &uuid, &result, &error, &start,
                                  &duration),
            0);
  EXPECT_EQ(std::string(result) + " " + error, "failed " + ours("HsmAbsent"));
  EXPECT_TRUE(::sd_bus_message_at_end(results.message.get(), 0));

  EXPECT_TRUE(admin
                  ->call(path, dbus::kJobInterface, "GetDetails",
                         [](auto* m) { return ::sd_bus_message_append(m, "uu", 0U, UINT32_MAX); })
                  .ok());
  EXPECT_EQ(admin->number_property(path, dbus::kJobInterface, "Failed"), 1U);
  EXPECT_EQ(admin->text_property(path, dbus::kJobInterface, "State"), "partial");
  EXPECT_EQ(admin->text_property(dbus::volume_path(b), dbus::kVolumeInterface, "State"), "failed");
}

TEST_F(MethodsTest, ACancelledJobFinishesWhatItBegan) {
  engine->hold();
  const auto path = admin->manager("UnlockMany", specs({"vol-a", "vol-b"})).path();
  EXPECT_TRUE(admin->call(path, dbus::kJobInterface, "Cancel", no_options).ok());
  engine->release();
  EXPECT_EQ(wait_for_job(path), "canceled");
  EXPECT_EQ(state_of(a), VolumeState::kLocked);
}

TEST_F(MethodsTest, JobsAreListed) {
  const auto path = admin->manager("Scan", no_options).path();
  const auto jobs = admin->manager("ListJobs");
  ASSERT_TRUE(jobs.ok());
  std::uint32_t id = 0;
  const char *job, *operation, *state, *message;
  ::sd_bus_message_enter_container(jobs.message.get(), 'a', "(uosss)");
  ASSERT_GT(
      ::sd_bus_message_read(jobs.message.get(), "(uosss)", &id, &job, &operation, &state, &message),
      0);
  EXPECT_EQ(job, path);
  EXPECT_EQ(std::string(operation), "scan");
}

TEST_F(MethodsTest, KeysAreMadeListedAndChanged) {
  const auto make = [](const char* alias) {
    return [alias](sd_bus_message* m) {
      return ::sd_bus_message_append(m, "sa{sv}", alias, 1, "description", "s", "for tests");
    };
  };
  const auto created =
      admin->call(dbus::kRootPath, dbus::kKeyringInterface, "CreateKey", make("second"));
  ASSERT_TRUE(created.ok()) << created.text;
  const auto path = created.path();
  EXPECT_EQ(admin->text_property(path, dbus::kKeyInterface, "Description"), "for tests");
  EXPECT_EQ(
      admin->call(dbus::kRootPath, dbus::kKeyringInterface, "CreateKey", make("second")).error,
      ours("NameTaken"));
  EXPECT_EQ(admin->call(dbus::kRootPath, dbus::kKeyringInterface, "CreateKey", make("_x")).error,
            kInvalidArgs);

  for (const auto& [method, state] : std::vector<std::pair<const char*, const char*>>{
           {"Disable", "Disabled"}, {"Enable", "Enabled"}}) {
    EXPECT_TRUE(admin->call(path, dbus::kKeyInterface, method, no_options).ok());
    EXPECT_EQ(admin->text_property(path, dbus::kKeyInterface, "State"), state);
  }
  EXPECT_TRUE(admin->call(path, dbus::kKeyInterface, "Rotate", no_options).ok());
  EXPECT_EQ(admin->number_property(path, dbus::kKeyInterface, "Version"), 2U);

  engine->fail_next(Error(Reason::kHsmAbsent, "no token"));
  EXPECT_EQ(admin->call(path, dbus::kKeyInterface, "Rotate", no_options).error, ours("HsmAbsent"));
  EXPECT_EQ(admin
                ->call(dbus::kRootPath, dbus::kKeyringInterface, "GetKey",
                       [](auto* m) { return ::sd_bus_message_append(m, "s", "none"); })
                .error,
            ours("NoSuchKey"));
  EXPECT_TRUE(admin->call(dbus::kRootPath, dbus::kKeyringInterface, "ListKeys", no_options).ok());
}

TEST_F(MethodsTest, TheAuditTrailIsReadAndVerified) {
  ASSERT_TRUE(on_volume(a, "Unlock", no_options).ok());
  const auto query = [&](std::uint64_t from) {
    return admin->call(dbus::kRootPath, dbus::kAuditInterface, "Query", [from](auto* m) {
      return ::sd_bus_message_append(m, "a{sv}u", 1, "from-seq", "t", from, 10U);
    });
  };
  const auto records = query(1);
  ASSERT_TRUE(records.ok()) << records.text;
  std::uint64_t seq = 0;
  std::uint64_t time = 0;
  std::uint64_t boot = 0;
  const char *event, *object, *text;
  ::sd_bus_message_enter_container(records.message.get(), 'a', "(tttsss)");
  ASSERT_GT(::sd_bus_message_read(records.message.get(), "(tttsss)", &seq, &time, &boot, &event,
                                  &object, &text),
            0);
  EXPECT_EQ(std::string(event) + " " + object, "unlock vol-a");

  const auto head = admin->call(
      dbus::kRootPath, "org.freedesktop.DBus.Properties", "Get",
      [](auto* m) { return ::sd_bus_message_append(m, "ss", dbus::kAuditInterface, "Seq"); });
  std::uint64_t last = 0;
  ASSERT_TRUE(head.ok()) << head.text;
  ASSERT_GT(::sd_bus_message_read(head.message.get(), "v", "t", &last), 0);
  EXPECT_EQ(last, engine->audit_head().sequence);
  EXPECT_GE(last, seq);

  const auto verdict = admin->call(dbus::kRootPath, dbus::kAuditInterface, "Verify", [](auto* m) {
    return ::sd_bus_message_append(m, "tt", std::uint64_t{0}, std::uint64_t{0});
  });
  int ok = 0;
  std::uint64_t bad = 0;
  ASSERT_TRUE(verdict.ok());
  ASSERT_GT(::sd_bus_message_read(verdict.message.get(), "bts", &ok, &bad, &text), 0);
  EXPECT_EQ(ok, 1);

  const auto about = [&](const char* id) {
    return admin->call(dbus::kRootPath, dbus::kAuditInterface, "Query", [id](auto* m) {
      return ::sd_bus_message_append(m, "a{sv}u", 1, "object", "s", id, 10U);
    });
  };
  EXPECT_TRUE(about(a.str().c_str()).ok());
  // Neither a volume nor a key: not taken for "all records".
  for (const char* id : {"vol-a", "", "main", "*"}) {
    EXPECT_EQ(about(id).error, kInvalidArgs) << id;
  }

  engine->fail_next(Error(Reason::kAuditUnavailable, "disk full"));
  EXPECT_EQ(query(0).error, ours("AuditUnavailable"));
  EXPECT_EQ(admin
                ->call(dbus::kRootPath, dbus::kAuditInterface, "Verify",
                       [](auto* m) {
                         return ::sd_bus_message_append(m, "tt", std::uint64_t{5},
                                                        std::uint64_t{4});
                       })
                .error,
            kInvalidArgs);
}

TEST_F(MethodsTest, AProviderIsTested) {
  const auto path = dbus::provider_path("local");
  EXPECT_EQ(admin->text_property(path, dbus::kKeyProviderInterface, "State"), "up");
  EXPECT_EQ(wait_for_job(admin->call(path, dbus::kKeyProviderInterface, "Test", no_options).path()),
            "done");
}

TEST_F(MethodsTest, SignalsTellWhatHappens) {
  admin->listen(dbus::kManagerInterface);
  admin->listen(dbus::kVolumeInterface);
  admin->listen(dbus::kJobInterface);
  const auto job = on_volume(a, "Unlock", no_options).path();
  wait_for_job(job);
  ASSERT_TRUE(on_volume(b, "Lock", no_options).ok());
  engine->raise_alert("warning", Reason::kHsmAbsent, "", "the token is gone");
  run_until(*loop, [&] {
    return std::count(admin->heard().begin(), admin->heard().end(),
                      std::string("Alert ") + dbus::kRootPath) > 0;
  });
  EXPECT_THAT(admin->heard(), Contains(std::string("JobNew ") + dbus::kRootPath));
  EXPECT_THAT(admin->heard(), Contains("StateChanged " + dbus::volume_path(a)));
  EXPECT_THAT(admin->heard(), Contains("ItemDone " + job));
  EXPECT_THAT(admin->heard(), Contains("Completed " + job));
}

TEST_F(MethodsTest, TheVolumesOfAKeyAreToldItsState) {
  const CmkId key = engine->volume(a)->keys.front().cmk;
  engine->change_volume(b, [](auto& volume) { volume.keys.clear(); });
  admin->text_property(dbus::volume_path(b), dbus::kVolumeInterface, "State");  // That is told.
  admin->listen("org.freedesktop.DBus.Properties");
  const auto told = [&](const VolumeId& id) {
    return std::count(admin->heard().begin(), admin->heard().end(),
                      "PropertiesChanged " + dbus::volume_path(id));
  };
  const auto on_key = [&](const char* method, const BusClient::Fill& fill = no_options) {
    return admin->call(dbus::key_path(key), dbus::kKeyInterface, method, fill);
  };
  ASSERT_TRUE(on_key("Disable", flag("force")).ok());
  EXPECT_TRUE(run_until(*loop, [&] { return told(a) == 1; }));
  // A change that leaves the key's state alone is none of the volume's properties.
  ASSERT_TRUE(on_key("Rotate").ok());
  ASSERT_TRUE(on_key("Enable").ok());
  EXPECT_TRUE(run_until(*loop, [&] { return told(a) == 2; }));
  EXPECT_EQ(told(b), 0);
}

TEST_F(MethodsTest, CountersOfTheManagerAreToldTogether) {
  admin->listen("org.freedesktop.DBus.Properties");
  const auto told = [&] {
    return std::count(admin->heard().begin(), admin->heard().end(),
                      std::string("PropertiesChanged ") + dbus::kRootPath);
  };
  std::vector<std::string> names;
  names.reserve(50);
  for (int i = 0; i < 50; ++i)
    names.push_back(engine->volume(engine->add_volume("v" + std::to_string(i)))->name);
  wait_for_job(admin->manager("UnlockMany", specs(names)).path());
  run_until(*loop, [&] { return told() > 0; });
  // Fifty state changes within fractions of a second.
  EXPECT_LE(told(), 5);
}

TEST_F(MethodsTest, TextsThatAreNoUtf8AreMadePrintable) {
  engine->change_volume(a, [](auto& volume) { volume.state_reason = "bad \xff\x1b name"; });
  EXPECT_EQ(admin->text_property(dbus::volume_path(a), dbus::kVolumeInterface, "StateReason"),
            "bad ?? name");
}

}  // namespace
}  // namespace coffer::tests
