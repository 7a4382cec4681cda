// SPDX-License-Identifier: Apache-2.0
// Many keys in one call, what uses a key beside volumes, counts, and random bytes.
#include <algorithm>

#include "tests/integration/dbus/keys_fixture.h"

namespace coffer::tests {
namespace {

using keyring::KeyState;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

class KeyBatchesTest : public KeysTest {
 protected:
  Answer change(const std::string& word, const std::vector<std::string>& paths,
                const BusClient::Fill& options = no_options) {
    return on_keyring("ChangeMany", [&](sd_bus_message* m) {
      int r = ::sd_bus_message_append(m, "s", word.c_str());
      if (r >= 0) r = ::sd_bus_message_open_container(m, 'a', "o");
      for (const auto& one : paths) {
        if (r >= 0) r = ::sd_bus_message_append(m, "o", one.c_str());
      }
      if (r >= 0) r = ::sd_bus_message_close_container(m);
      return r < 0 ? r : options(m);
    });
  }
  // Path and error of each row.
  static std::vector<std::pair<std::string, std::string>> results_of(const Answer& answer) {
    std::vector<std::pair<std::string, std::string>> rows;
    const char *object, *error, *text;
    if (!answer.ok()) return {{answer.error, answer.text}};
    ::sd_bus_message_enter_container(answer.message.get(), 'a', "(oss)");
    while (::sd_bus_message_read(answer.message.get(), "(oss)", &object, &error, &text) > 0)
      rows.emplace_back(object, error);
    return rows;
  }
  KeyState state_of(const CmkId& key) const { return engine->key(key.str())->record.state; }

  Answer bind(const char* method, const std::string& resource) {
    return on_key(method, [&](sd_bus_message* m) {
      const int r = ::sd_bus_message_append(m, "s", resource.c_str());
      return r < 0 ? r : no_options(m);
    });
  }
  std::vector<std::string> bindings(const BusClient::Fill& page = no_options) {
    const auto answer = on_key("ListBindings", page);
    EXPECT_TRUE(answer.ok()) << answer.error << answer.text;
    std::vector<std::string> found;
    const char* resource = nullptr;
    if (!answer.ok()) return found;
    ::sd_bus_message_enter_container(answer.message.get(), 'a', "s");
    while (::sd_bus_message_read(answer.message.get(), "s", &resource) > 0)
      found.emplace_back(resource);
    return found;
  }
  std::uint64_t count(const BusClient::Fill& filter) {
    const auto answer = on_keyring("CountKeys", filter);
    EXPECT_TRUE(answer.ok()) << answer.error << answer.text;
    std::uint64_t number = 0;
    if (answer.ok()) ::sd_bus_message_read(answer.message.get(), "t", &number);
    return number;
  }
};

BusClient::Fill days(std::uint32_t number) {
  return [=](sd_bus_message* m) {
    return ::sd_bus_message_append(m, "a{sv}", 1, "days", "u", number);
  };
}

BusClient::Fill tags(const std::vector<std::string>& wanted) {
  return [=](sd_bus_message* m) {
    int r = ::sd_bus_message_open_container(m, 'a', "{sv}");
    if (r >= 0) r = ::sd_bus_message_open_container(m, 'e', "sv");
    if (r >= 0) r = ::sd_bus_message_append(m, "s", "tags");
    if (r >= 0) r = ::sd_bus_message_open_container(m, 'v', "as");
    if (r >= 0) r = dbus::append_texts(m, wanted);
    for (int i = 0; i < 3; ++i) {
      if (r >= 0) r = ::sd_bus_message_close_container(m);
    }
    return r;
  };
}

TEST_F(KeyBatchesTest, EachKeyOfACallHasItsResult) {
  engine->add_volume("vol-a");  // Uses the first key.
  const CmkId second = engine->add_key("second");
  const CmkId third = engine->add_key("third");
  const auto gone = dbus::key_path(*CmkId::random());
  EXPECT_THAT(
      results_of(change("disable", {dbus::key_path(second), gone, path, dbus::key_path(third)})),
      ElementsAre(Pair(dbus::key_path(second), ""), Pair(gone, ours("NoSuchKey")),
                  Pair(path, ours("KeyBound")), Pair(dbus::key_path(third), "")));
  EXPECT_EQ(state_of(second), KeyState::kDisabled);
  EXPECT_EQ(state_of(third), KeyState::kDisabled);
  EXPECT_EQ(state_of(id), KeyState::kEnabled);
  EXPECT_THAT(results_of(change("disable", {path}, flag("force"))), ElementsAre(Pair(path, "")));
  EXPECT_EQ(state_of(id), KeyState::kDisabled);
  EXPECT_THAT(results_of(change("schedule-deletion", {dbus::key_path(second)}, days(7))),
              ElementsAre(Pair(dbus::key_path(second), "")));
  EXPECT_EQ(state_of(second), KeyState::kPendingDelete);
  for (const auto* word : {"cancel-deletion", "enable", "archive", "cancel-archive", "rotate"})
    EXPECT_THAT(results_of(change(word, {dbus::key_path(second)})),
                ElementsAre(Pair(dbus::key_path(second), "")))
        << word;
  EXPECT_EQ(state_of(second), KeyState::kEnabled);
  EXPECT_THAT(results_of(change("set-rotation", {dbus::key_path(second)}, days(30))),
              ElementsAre(Pair(dbus::key_path(second), "")));
  EXPECT_EQ(engine->key("second")->record.rotation_days, 30U);
  EXPECT_THAT(results_of(change("delete-material", {dbus::key_path(second)})),
              ElementsAre(Pair(dbus::key_path(second), "")));
}

TEST_F(KeyBatchesTest, ATokenThatIsAwayIsNotWaitedForOnceForEachKey) {
  const CmkId second = engine->add_key("second");
  const CmkId third = engine->add_key("third");
  engine->fail_next(Error(Reason::kHsmTimeout, "it hangs"));
  const auto gone = dbus::key_path(*CmkId::random());
  EXPECT_THAT(
      results_of(change("disable", {dbus::key_path(second), gone, dbus::key_path(third)})),
      ElementsAre(Pair(dbus::key_path(second), ours("HsmTimeout")), Pair(gone, ours("NoSuchKey")),
                  Pair(dbus::key_path(third), ours("HsmTimeout"))));
  EXPECT_EQ(state_of(third), KeyState::kEnabled);
}

TEST_F(KeyBatchesTest, ACallOfManyHasItsLimits) {
  const auto effects_before = engine->effects();
  EXPECT_EQ(change("enable", {path, path}).error, kInvalidArgs) << "twice";
  EXPECT_EQ(change("enable", {}).error, kInvalidArgs);
  EXPECT_EQ(change("enable", {dbus::kRootPath}).error, kInvalidArgs);
  EXPECT_EQ(change("describe", {path}).error, kInvalidArgs);
  EXPECT_EQ(change("destroy", {path}).error, kInvalidArgs);
  EXPECT_EQ(change("enable", {path}, flag("force")).error, kInvalidArgs);
  EXPECT_EQ(change("rotate", {path}, days(7)).error, kInvalidArgs);
  EXPECT_EQ(change("schedule-deletion", {path}).error, kInvalidArgs) << "in how many days?";
  EXPECT_EQ(change("enable", {path}, flag("dry-run")).error, ours("Unsupported"));
  EXPECT_EQ(change("enable", {dbus::key_path(*CmkId::random())}).error, ours("NoSuchKey"));
  std::vector<std::string> many(100, "");
  for (auto& one : many) one = dbus::key_path(*CmkId::random());
  many.front() = path;
  EXPECT_EQ(results_of(change("enable", many)).size(), 100U);
  many.push_back(dbus::key_path(*CmkId::random()));
  EXPECT_EQ(change("enable", many).error, ours("LimitsExceeded"));
  EXPECT_EQ(engine->effects().size(), effects_before.size() + 1);
}

TEST_F(KeyBatchesTest, PolkitIsAskedForEachKeyAndForWhatTheChangeIs) {
  auto nobody = make_nobody();
  if (!nobody) GTEST_SKIP() << "needs root to call as another user";
  const CmkId second = engine->add_key("second");
  polkit->decide([](const FakePolkit::Question& question) {
    return question.details.at("alias") == "default" ? FakePolkit::Says::kYes
                                                     : FakePolkit::Says::kNo;
  });
  const auto as_nobody = [&](const char* word, const BusClient::Fill& options) {
    return nobody->call(dbus::kRootPath, dbus::kKeyringInterface, "ChangeMany", [&](auto* m) {
      const int r =
          ::sd_bus_message_append(m, "sao", word, 2, path.c_str(), dbus::key_path(second).c_str());
      return r < 0 ? r : options(m);
    });
  };
  EXPECT_EQ(as_nobody("disable", no_options).error, "org.freedesktop.DBus.Error.AccessDenied");
  EXPECT_EQ(polkit->questions().back().action, "org.coffer.Agent1.manage-keys");
  EXPECT_EQ(polkit->questions().back().details.at("operation"), "disable-key");
  EXPECT_EQ(as_nobody("schedule-deletion", days(7)).error,
            "org.freedesktop.DBus.Error.AccessDenied");
  EXPECT_EQ(polkit->questions().back().action, "org.coffer.Agent1.delete-keys");
  EXPECT_THAT(engine->effects(), IsEmpty()) << "one denial refuses the call";
  std::vector<std::pair<std::string, std::string>> recorded;
  for (const auto& refusal : engine->refusals())
    recorded.emplace_back(refusal.operation, refusal.object);
  EXPECT_THAT(recorded,
              ElementsAre(Pair("key.disable", id.str()), Pair("key.disable", second.str()),
                          Pair("key.schedule-deletion", id.str()),
                          Pair("key.schedule-deletion", second.str())));
}

TEST_F(KeyBatchesTest, PolkitIsToldWhatIsBound) {
  auto nobody = make_nobody();
  if (!nobody) GTEST_SKIP() << "needs root to call as another user";
  for (const char* method : {"Bind", "Unbind"}) {
    const auto answer = nobody->call(path, dbus::kKeyInterface, method, [](sd_bus_message* m) {
      const int r = ::sd_bus_message_append(m, "s", "backup:nightly");
      return r < 0 ? r : no_options(m);
    });
    EXPECT_EQ(answer.error, "org.freedesktop.DBus.Error.AccessDenied");
    EXPECT_EQ(polkit->questions().back().action, "org.coffer.Agent1.manage-keys");
    EXPECT_EQ(polkit->questions().back().details.at("resource"), "backup:nightly") << method;
    EXPECT_EQ(polkit->questions().back().details.at("alias"), "default");
  }
}

TEST_F(KeyBatchesTest, ResourcesAreBoundListedAndUnbound) {
  ASSERT_TRUE(bind("Bind", "backup:nightly").ok());
  ASSERT_TRUE(bind("Bind", "archive:7").ok());
  ASSERT_TRUE(bind("Bind", "archive:7").ok()) << "it stays so";
  EXPECT_THAT(bindings(), ElementsAre("archive:7", "backup:nightly"));
  EXPECT_THAT(bindings(text("after", "archive:7")), ElementsAre("backup:nightly"));
  EXPECT_THAT(
      bindings([](auto* m) { return ::sd_bus_message_append(m, "a{sv}", 1, "max", "u", 1U); }),
      ElementsAre("archive:7"));
  ASSERT_TRUE(bind("Unbind", "archive:7").ok());
  EXPECT_THAT(bindings(), ElementsAre("backup:nightly"));
  EXPECT_EQ(bind("Unbind", "archive:7").error, ours("NoSuchBinding")) << "not bound any more";
  for (const auto& wrong : {std::string(), std::string("with blank "), std::string(129, 'x'),
                            std::string("volume:x")}) {
    EXPECT_EQ(bind("Bind", wrong).error, kInvalidArgs) << wrong;
    EXPECT_EQ(bind("Unbind", wrong).error, kInvalidArgs) << wrong;
  }
  expect_errors([&] { return bind("Bind", "x"); },
                {Reason::kKeyDisabled, Reason::kKeyPendingDeletion, Reason::kLimitsExceeded});
  EXPECT_EQ(on_key("ListBindings", number(1)).error, kInvalidArgs);
  EXPECT_THAT(engine->effects(), Contains("key.bind archive:7 default"));
}

TEST_F(KeyBatchesTest, KeysAreFoundByAnyValueOfEachTagAndCounted) {
  engine->add_key("second");
  engine->add_key("third");
  const auto tag = [&](const char* alias, const char* env, const char* team) {
    path = dbus::key_path(engine->key(alias)->record.id);
    const auto done = on_key("SetTags", [&](sd_bus_message* m) {
      const int r = ::sd_bus_message_append(m, "a{ss}", 2, "env", env, "team", team);
      return r < 0 ? r : no_options(m);
    });
    ASSERT_TRUE(done.ok()) << done.text;
  };
  tag("default", "prod", "a");
  tag("second", "test", "a");
  tag("third", "dev", "b");
  const auto sorted = [&](const std::vector<std::string>& wanted) {
    auto found = aliases(tags(wanted));
    std::ranges::sort(found);
    return found;
  };
  EXPECT_THAT(sorted({"env=prod", "env=test"}), ElementsAre("default", "second"));
  EXPECT_THAT(sorted({"env=prod", "env=dev", "team=b"}), ElementsAre("third"));
  EXPECT_THAT(sorted({"team=a", "team=b"}), ElementsAre("default", "second", "third"));
  EXPECT_THAT(sorted({"env=prod", "team=b"}), IsEmpty());
  EXPECT_EQ(on_keyring("ListKeys", tags({"env"})).error, kInvalidArgs);
  EXPECT_EQ(on_keyring("ListKeys", tags(std::vector<std::string>(51, "env=x"))).error,
            ours("LimitsExceeded"));
  EXPECT_EQ(count(no_options), 3U);
  EXPECT_EQ(count(tags({"env=prod", "env=test"})), 2U);
  EXPECT_EQ(count(text("state", "Disabled")), 0U);
  EXPECT_EQ(on_keyring("CountKeys", text("state", "Gone")).error, kInvalidArgs);
  expect_errors([&] { return on_keyring("CountKeys", no_options); }, {Reason::kStoreUnavailable});
}

TEST_F(KeyBatchesTest, UsesAreCountedByVersion) {
  engine->change_record(id, [](auto& record) {
    record.versions.back().wraps_leased = 65'536;
    record.versions.back().state = keyring::VersionState::kDecryptOnly;
    record.versions.push_back({.number = 2, .wraps_leased = 7});
  });
  const auto read = admin->call(path, "org.freedesktop.DBus.Properties", "Get", [&](auto* m) {
    return ::sd_bus_message_append(m, "ss", dbus::kKeyInterface, "Uses");
  });
  ASSERT_TRUE(read.ok()) << read.text;
  std::uint32_t number = 0;
  std::uint64_t uses = 0;
  ::sd_bus_message_enter_container(read.message.get(), 'v', "a(ut)");
  ::sd_bus_message_enter_container(read.message.get(), 'a', "(ut)");
  ASSERT_GT(::sd_bus_message_read(read.message.get(), "(ut)", &number, &uses), 0);
  EXPECT_EQ(std::pair(number, uses), std::pair(1U, std::uint64_t{65'536}));
  ASSERT_GT(::sd_bus_message_read(read.message.get(), "(ut)", &number, &uses), 0);
  EXPECT_EQ(std::pair(number, uses), std::pair(2U, std::uint64_t{7}));
}

TEST_F(KeyBatchesTest, RandomBytesComeInASealedFile) {
  const auto drawn = on_keyring("GenerateRandom", number(32));
  ASSERT_TRUE(drawn.ok()) << drawn.text;
  EXPECT_STREQ(::sd_bus_message_get_signature(drawn.message.get(), 1), "h");
  const std::string first = secret_of(drawn.message.get());
  EXPECT_EQ(first.size(), 32U);
  EXPECT_NE(secret_of(on_keyring("GenerateRandom", number(32)).message.get()), first);
  EXPECT_EQ(secret_of(on_keyring("GenerateRandom", number(1024)).message.get()).size(), 1024U);
  for (const std::uint32_t size : {0U, 1025U})
    EXPECT_EQ(on_keyring("GenerateRandom", number(size)).error, kInvalidArgs) << size;
  expect_errors([&] { return on_keyring("GenerateRandom", number(1)); }, {Reason::kHsmAbsent});
}

}  // namespace
}  // namespace coffer::tests
