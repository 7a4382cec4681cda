// SPDX-License-Identifier: Apache-2.0
// The life of keys by the methods and properties of Keyring and Key, and each error that their XML
// names.
#include <algorithm>

#include "core/base/encoding.h"
#include "core/keyring/import_limits.h"
#include "tests/integration/dbus/keys_fixture.h"

namespace coffer::tests {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

TEST_F(KeysTest, AKeyIsMadeAsItsOptionsSay) {
  const auto made = create("signer", [](sd_bus_message* m) {
    return ::sd_bus_message_append(m, "a{sv}", 4, "algorithm", "s", "EC-P256", "description", "s",
                                   "for tests", "protection", "s", "rooted", "usage", "s",
                                   "sign-verify");
  });
  ASSERT_TRUE(made.ok()) << made.text;
  path = made.path();
  for (const auto& [name, value] :
       std::vector<std::pair<const char*, const char*>>{{"Alias", "signer"},
                                                        {"Description", "for tests"},
                                                        {"Algorithm", "EC-P256"},
                                                        {"Usage", "sign-verify"},
                                                        {"Protection", "rooted"},
                                                        {"Owner", "user"},
                                                        {"Origin", "generated"},
                                                        {"State", "Enabled"},
                                                        {"TokenKind", "software"}}) {
    EXPECT_EQ(property(name), value) << name;
  }
  path = create("brought", text("origin", "imported")).path();
  EXPECT_EQ(property("State"), "PendingImport");
  EXPECT_EQ(property("Usage"), "encrypt-decrypt") << "what AES-256 is for, unless it is said";
}

TEST_F(KeysTest, WhatCannotBeMadeIsRefused) {
  EXPECT_EQ(create("default").error, ours("NameTaken"));
  for (const auto& [option, value] : std::vector<std::pair<const char*, const char*>>{
           {"algorithm", "DES"},
           {"algorithm", "RSA-2048"},  // Its usage must be said.
           {"usage", "everything"},
           {"usage", "sign-verify"},  // Of AES-256.
           {"protection", "none"},
           {"origin", "found"},
           {"owner", "service"}}) {  // Not for callers.
    EXPECT_EQ(create("second", text(option, value)).error, kInvalidArgs) << option << value;
  }
  EXPECT_EQ(create("second", flag("dry-run")).error, ours("Unsupported"));
  expect_errors([&] { return create("second"); }, {Reason::kUnsupported, Reason::kHsmAbsent});
  EXPECT_THAT(engine->effects(), IsEmpty());
}

TEST_F(KeysTest, KeysAreListedByEachFilterAndByPages) {
  const CmkId other = engine->add_key("other");
  engine->change_record(other, [](auto& record) {
    record.state = keyring::KeyState::kArchived;
    record.owner = keyring::KeyOwner::kService;
    record.origin = keyring::KeyOrigin::kImported;
    record.usage = keyring::KeyUsage::kSignVerify;
    record.algorithm = keyring::KeyAlgorithm::kEcP384;
    record.created += std::chrono::hours(1);
  });
  EXPECT_THAT(aliases(no_options), testing::UnorderedElementsAre("default", "other"));
  for (const auto& [option, value] :
       std::vector<std::pair<const char*, const char*>>{{"state", "Archived"},
                                                        {"owner", "service"},
                                                        {"origin", "imported"},
                                                        {"usage", "sign-verify"},
                                                        {"algorithm", "EC-P384"},
                                                        {"search", "the"}}) {
    EXPECT_THAT(aliases(text(option, value)), ElementsAre("other")) << option;
  }
  EXPECT_THAT(aliases(text("order", "newest")), ElementsAre("other", "default"));
  EXPECT_THAT(aliases(text("order", "oldest")), ElementsAre("default", "other"));
  const CmkId first = std::min(id, other);
  const CmkId second = std::max(id, other);
  EXPECT_THAT(aliases(text("after", first.str())),
              ElementsAre(engine->key(second.str())->record.alias));
  EXPECT_THAT(aliases([](auto* m) {
                return ::sd_bus_message_append(m, "a{sv}", 3, "order", "s", "newest", "offset", "u",
                                               1U, "max", "u", 1U);
              }),
              ElementsAre("default"));
  EXPECT_THAT(aliases([&](auto* m) {
                return ::sd_bus_message_append(m, "a{sv}", 2, "order", "s", "oldest", "after", "s",
                                               id.str().c_str());
              }),
              ElementsAre("other"));

  for (const auto& [option, value] :
       std::vector<std::pair<const char*, std::string>>{{"state", "Destroyed"},
                                                        {"order", "random"},
                                                        {"after", "default"},
                                                        {"tag", "no value"},
                                                        {"search", std::string(65, 'x')},
                                                        {"nonsense", ""}}) {
    EXPECT_EQ(on_keyring("ListKeys", text(option, value)).error, kInvalidArgs) << option;
  }
  EXPECT_EQ(
      on_keyring("ListKeys",
                 [](auto* m) { return ::sd_bus_message_append(m, "a{sv}", 1, "offset", "u", 1U); })
          .error,
      kInvalidArgs);
  expect_errors([&] { return on_keyring("ListKeys", no_options); }, {Reason::kStoreUnavailable});
}

TEST_F(KeysTest, AKeyGoesThroughItsStates) {
  const auto goes_to = [&](const Answer& answer, const char* state) {
    EXPECT_TRUE(answer.ok()) << answer.error << answer.text;
    EXPECT_EQ(property("State"), state);
  };
  goes_to(on_key("Disable", no_options), "Disabled");
  goes_to(on_key("Enable", no_options), "Enabled");
  goes_to(on_key("Archive", no_options), "Archived");
  goes_to(on_key("CancelArchive", no_options), "Enabled");
  goes_to(on_key("ScheduleDeletion", number(7)), "PendingDelete");
  EXPECT_GT(time_property("DeletionUSec"), time_property("CreatedUSec"));
  goes_to(on_key("CancelDeletion", no_options), "Disabled");
  EXPECT_EQ(time_property("DeletionUSec"), 0U);
  EXPECT_TRUE(on_key("Rotate", no_options).ok());
  EXPECT_EQ(admin->number_property(path, dbus::kKeyInterface, "Version"), 2U);
  EXPECT_TRUE(on_key("DestroyVersion", number(1)).ok());
  EXPECT_TRUE(on_key("SetRotation", number(90)).ok());
  EXPECT_EQ(admin->number_property(path, dbus::kKeyInterface, "RotationDays"), 90U);
  EXPECT_GT(time_property("NextRotationUSec"), time_property("CreatedUSec"));
  EXPECT_TRUE(on_key("SetRotation", number(0)).ok());
  EXPECT_EQ(time_property("NextRotationUSec"), 0U);
  EXPECT_THAT(engine->effects(), Contains("key.schedule-deletion default"));
}

TEST_F(KeysTest, EachChangeSaysWhatRefusesIt) {
  const auto plain = [&](const char* method) {
    return [this, method] { return on_key(method, no_options); };
  };
  const auto counted = [&](const char* method) {
    return [this, method] { return on_key(method, number(7)); };
  };
  expect_errors(plain("Enable"), {Reason::kKeyArchived, Reason::kKeyPendingDeletion,
                                  Reason::kKeyPendingImport, Reason::kHsmAbsent});
  expect_errors(plain("Disable"), {Reason::kKeyBound, Reason::kServiceKey, Reason::kKeyArchived});
  expect_errors(plain("Archive"),
                {Reason::kKeyBound, Reason::kServiceKey, Reason::kKeyPendingImport});
  expect_errors(plain("CancelArchive"), {Reason::kKeyNotArchived});
  expect_errors(counted("ScheduleDeletion"), {Reason::kKeyBound, Reason::kKeyNotDisabled,
                                              Reason::kServiceKey, Reason::kInvalidArgs});
  expect_errors(plain("CancelDeletion"), {Reason::kKeyNotPendingDeletion});
  expect_errors(plain("Rotate"), {Reason::kKeyUsage, Reason::kKeyImported, Reason::kLimitsExceeded,
                                  Reason::kKeyDisabled, Reason::kInProgress});
  expect_errors(counted("SetRotation"), {Reason::kKeyUsage, Reason::kKeyImported});
  expect_errors([&] { return on_key("Describe", text("alias", "x")); },
                {Reason::kNameTaken, Reason::kKeyPendingDeletion, Reason::kServiceKey});
  expect_errors(counted("DestroyVersion"), {Reason::kKeyBound, Reason::kKeyNotDisabled,
                                            Reason::kInvalidArgs, Reason::kAuditUnavailable});
  expect_errors(plain("PrepareImport"), {Reason::kKeyNotImported, Reason::kUnsupported});
  expect_errors(plain("DeleteMaterial"),
                {Reason::kKeyBound, Reason::kKeyNotImported, Reason::kServiceKey});
  EXPECT_THAT(engine->effects(), IsEmpty());
  for (const auto* method : {"Enable", "Disable", "Archive", "Rotate", "DeleteMaterial"}) {
    EXPECT_EQ(on_key(method, flag("dry-run")).error, ours("Unsupported")) << method;
    EXPECT_EQ(on_key(method, flag("nonsense")).error, kInvalidArgs) << method;
    EXPECT_EQ(on_key(method, {}).error, kInvalidArgs) << method;
  }
  EXPECT_EQ(on_key("Rotate", flag("force")).error, kInvalidArgs);
}

TEST_F(KeysTest, VolumesOfAKeyAreRewrappedAsAJob) {
  const auto volume = engine->add_volume("vol-a");
  ASSERT_TRUE(on_key("Rotate", no_options).ok());
  const auto paced = [](std::uint64_t number) {
    return [=](sd_bus_message* m) {
      return ::sd_bus_message_append(m, "a{sv}", 1, "per-minute", "t", number);
    };
  };
  const auto answer = on_key("RewrapAll", paced(30));
  ASSERT_TRUE(answer.ok()) << answer.error << answer.text;
  const char* job = nullptr;
  ASSERT_GT(::sd_bus_message_read(answer.message.get(), "o", &job), 0);
  EXPECT_EQ(admin->text_property(job, dbus::kJobInterface, "Operation"), "rewrap");
  EXPECT_EQ(engine->last_rewrap().per_minute, 30U);
  ASSERT_TRUE(run_until(*loop, [&] { return engine->volume(volume)->keys.front().version == 2; }));

  EXPECT_TRUE(on_key("RewrapAll", no_options).ok());
  EXPECT_EQ(engine->last_rewrap().per_minute, 0U);
  EXPECT_EQ(on_key("RewrapAll", paced(60'001)).error, kInvalidArgs);
  EXPECT_EQ(on_key("RewrapAll", flag("dry-run")).error, ours("Unsupported"));
  EXPECT_EQ(on_key("RewrapAll", {}).error, kInvalidArgs);
  expect_errors([&] { return on_key("RewrapAll", no_options); },
                {Reason::kInProgress, Reason::kKeyUsage, Reason::kKeyDisabled, Reason::kKeyArchived,
                 Reason::kKeyPendingDeletion, Reason::kLimitsExceeded});
}

TEST_F(KeysTest, AKeyThatVolumesUseIsTakenAwayByForceAlone) {
  const auto volume = engine->add_volume("vol-a");
  EXPECT_EQ(on_key("Disable", no_options).error, ours("KeyBound"));
  EXPECT_TRUE(on_key("Disable", flag("force")).ok());
  EXPECT_EQ(admin->number_property(path, dbus::kKeyInterface, "NVolumes"), 1U);
  const auto listed = on_key("ListVolumes", {});
  ASSERT_TRUE(listed.ok()) << listed.text;
  const char *uuid, *name, *object;
  ::sd_bus_message_enter_container(listed.message.get(), 'a', "(sso)");
  ASSERT_GT(::sd_bus_message_read(listed.message.get(), "(sso)", &uuid, &name, &object), 0);
  EXPECT_EQ(std::string(uuid) + " " + name, volume.str() + " vol-a");
  EXPECT_EQ(object, dbus::volume_path(volume));
  EXPECT_TRUE(::sd_bus_message_at_end(listed.message.get(), 0));
}

TEST_F(KeysTest, DescribeChangesWhatIsGivenAlone) {
  ASSERT_TRUE(on_key("Describe", text("description", "first")).ok());
  ASSERT_TRUE(on_key("Describe", text("alias", "renamed")).ok());
  EXPECT_EQ(property("Alias") + ": " + property("Description"), "renamed: first");
  ASSERT_TRUE(on_key("Describe", text("description", "")).ok());
  EXPECT_EQ(property("Description"), "");
}

TEST_F(KeysTest, TagsAreReplacedShownAndSearchedFor) {
  const auto set = [&](const std::vector<std::pair<std::string, std::string>>& tags) {
    return on_key("SetTags", [&](sd_bus_message* m) {
      int r = ::sd_bus_message_open_container(m, 'a', "{ss}");
      for (const auto& [name, value] : tags) {
        if (r >= 0) r = ::sd_bus_message_append(m, "{ss}", name.c_str(), value.c_str());
      }
      if (r >= 0) r = ::sd_bus_message_close_container(m);
      return r < 0 ? r : no_options(m);
    });
  };
  ASSERT_TRUE(set({{"team", "storage"}, {"env", "prod"}}).ok());
  EXPECT_THAT(aliases(text("tag", "env=prod")), ElementsAre("default"));
  EXPECT_THAT(aliases(text("tag", "env=test")), IsEmpty());
  EXPECT_EQ(engine->key("default")->tags.size(), 2U);
  const auto read = admin->call(path, "org.freedesktop.DBus.Properties", "Get", [&](auto* m) {
    return ::sd_bus_message_append(m, "ss", dbus::kKeyInterface, "Tags");
  });
  const char *name, *value;
  ::sd_bus_message_enter_container(read.message.get(), 'v', "a{ss}");
  ::sd_bus_message_enter_container(read.message.get(), 'a', "{ss}");
  ASSERT_GT(::sd_bus_message_read(read.message.get(), "{ss}", &name, &value), 0);
  EXPECT_EQ(std::string(name) + "=" + value, "env=prod");

  EXPECT_EQ(set({{"a", "1"}, {"a", "2"}}).error, kInvalidArgs);
  EXPECT_EQ(set({{"", "1"}}).error, kInvalidArgs);
  EXPECT_EQ(set({{"a", std::string(256, 'x')}}).error, kInvalidArgs);
  std::vector<std::pair<std::string, std::string>> many;
  many.reserve(51);
  for (int i = 0; i < 51; ++i) many.emplace_back("tag-" + std::to_string(i), "");
  EXPECT_EQ(set(many).error, ours("LimitsExceeded"));
  expect_errors([&] { return set({}); }, {Reason::kKeyPendingDeletion});
  EXPECT_EQ(engine->key("default")->tags.size(), 2U);
}

TEST_F(KeysTest, MaterialIsImportedWithItsToken) {
  path = create("brought", text("origin", "imported")).path();
  const auto prepared = on_key("PrepareImport", text("wrapping", "rsa-aes-key-wrap-sha256"));
  ASSERT_TRUE(prepared.ok()) << prepared.text;
  const Bytes public_key = bytes_of(prepared.message.get());
  const Bytes token = bytes_of(prepared.message.get());
  std::uint64_t valid_to = 0;
  ::sd_bus_message_read_basic(prepared.message.get(), 't', static_cast<void*>(&valid_to));
  EXPECT_FALSE(public_key.empty());
  EXPECT_GT(valid_to, time_property("CreatedUSec"));
  EXPECT_EQ(on_key("PrepareImport", text("wrapping", "paper")).error, kInvalidArgs);

  const auto wrapped = seal_secret(*SecretBytes::copy_of(*from_hex("c0ffee")));
  const auto import = [&](const Bytes& with, std::uint64_t until) {
    return on_key("ImportMaterial", [&](sd_bus_message* m) {
      const int fd = wrapped->get();
      int r = append_blob(m, with);
      if (r >= 0) r = ::sd_bus_message_append_basic(m, 'h', &fd);
      return r < 0 ? r : ::sd_bus_message_append(m, "a{sv}", 1, "valid-to-usec", "t", until);
    });
  };
  EXPECT_EQ(import(Bytes(16), 0).error, ours("ImportTokenExpired"));
  EXPECT_EQ(import(token, UINT64_MAX).error, kInvalidArgs);
  expect_errors([&] { return import(token, 0); },
                {Reason::kImportTokenExpired, Reason::kImportRefused, Reason::kMaterialMismatch,
                 Reason::kKeyNotImported, Reason::kKeyDisabled});
  const std::uint64_t until = usec(system_clock().wall()) + 1'000'000;
  ASSERT_TRUE(import(token, until).ok());
  EXPECT_THAT(engine->effects(), Contains("key.import c0ffee brought"));
  EXPECT_EQ(property("State"), "Enabled");
  EXPECT_EQ(time_property("MaterialValidToUSec"), until);
  ASSERT_TRUE(on_key("DeleteMaterial", no_options).ok());
  EXPECT_EQ(property("State"), "PendingImport");
}

TEST_F(KeysTest, MaterialIsTakenUpToTheLengthThatTheVaultTakes) {
  path = create("brought", text("origin", "imported")).path();
  const auto prepared = on_key("PrepareImport", no_options);
  ASSERT_TRUE(prepared.ok()) << prepared.text;
  bytes_of(prepared.message.get());  // The public key.
  const Bytes token = bytes_of(prepared.message.get());
  const auto import = [&](std::size_t size_bytes) {
    const auto wrapped = seal_secret(*SecretBytes::random(size_bytes));
    return on_key("ImportMaterial", [&](sd_bus_message* m) {
      const int fd = wrapped->get();
      int r = append_blob(m, token);
      if (r >= 0) r = ::sd_bus_message_append_basic(m, 'h', &fd);
      return r < 0 ? r : no_options(m);
    });
  };
  EXPECT_EQ(import(keyring::kImportWrappedBytesMax + 1).error, kInvalidArgs);
  EXPECT_TRUE(import(keyring::kImportWrappedBytesMax).ok());
}

TEST_F(KeysTest, AKeyIsWrappedAsItsKindIsUnlessThatIsSaid) {
  path = create("brought", text("origin", "imported")).path();
  ASSERT_TRUE(on_key("PrepareImport", no_options).ok());
  EXPECT_THAT(engine->effects(), Contains("key.prepare-import rsa-oaep-sha256"));
  path = create("signer", [](sd_bus_message* m) {
           return ::sd_bus_message_append(m, "a{sv}", 3, "origin", "s", "imported", "algorithm",
                                          "s", "RSA-4096", "usage", "s", "sign-verify");
         }).path();
  EXPECT_EQ(property("State"), "PendingImport");
  ASSERT_TRUE(on_key("PrepareImport", no_options).ok());
  EXPECT_THAT(engine->effects(), Contains("key.prepare-import rsa-aes-key-wrap-sha256"));
  ASSERT_TRUE(on_key("PrepareImport", text("wrapping", "rsa-aes-key-wrap-sha1")).ok());
  EXPECT_THAT(engine->effects(), Contains("key.prepare-import rsa-aes-key-wrap-sha1"));
}

TEST_F(KeysTest, ChangesAreToldAndAKeyThatIsGoneIsNoObjectAnyMore) {
  admin->listen("org.freedesktop.DBus.Properties");
  admin->listen("org.freedesktop.DBus.ObjectManager");
  engine->change_record(id, [](auto& record) { record.state = keyring::KeyState::kDisabled; });
  EXPECT_TRUE(run_until(*loop, [&] {
    return std::ranges::find(admin->heard(), "PropertiesChanged " + path) != admin->heard().end();
  }));
  engine->remove_key(id);
  EXPECT_TRUE(run_until(*loop, [&] {
    return std::ranges::find(admin->heard(), std::string("InterfacesRemoved ") + dbus::kRootPath) !=
           admin->heard().end();
  }));
  EXPECT_EQ(on_key("Enable", no_options).error, "org.freedesktop.DBus.Error.UnknownObject");
}

TEST_F(KeysTest, EachUseAsksForItsActionAndForBothKeys) {
  auto nobody = make_nobody();
  if (!nobody) GTEST_SKIP() << "needs root to call as another user";
  polkit->always(FakePolkit::Says::kNo);
  engine->add_key("other");
  const Bytes blob = bytes_of(encrypt("text").message.get());
  const auto action_of = [&](const std::string& object, const char* interface, const char* method,
                             const BusClient::Fill& fill) {
    const auto answer = nobody->call(object, interface, method, fill);
    EXPECT_EQ(answer.error, "org.freedesktop.DBus.Error.AccessDenied") << method;
    return polkit->questions().empty() ? "" : polkit->questions().back().action;
  };
  EXPECT_EQ(action_of(path, dbus::kKeyInterface, "Archive", no_options),
            "org.coffer.Agent1.manage-keys");
  EXPECT_EQ(polkit->questions().back().details.at("alias"), "default");
  EXPECT_EQ(action_of(path, dbus::kKeyInterface, "Disable", flag("force")),
            "org.coffer.Agent1.manage-keys");
  EXPECT_EQ(polkit->questions().back().details.at("force"), "true");
  EXPECT_EQ(action_of(path, dbus::kKeyInterface, "ScheduleDeletion", number(7)),
            "org.coffer.Agent1.delete-keys");
  const auto fill = [&](sd_bus_message* m) {
    int r = append_blob(m, blob);
    if (r >= 0) r = append_context(m, "");
    return r < 0 ? r : no_options(m);
  };
  EXPECT_EQ(action_of(dbus::kRootPath, dbus::kKeyringInterface, "Decrypt", fill),
            "org.coffer.Agent1.use-keys");

  polkit->decide([](const FakePolkit::Question& question) {
    return question.details.at("alias") == "default" ? FakePolkit::Says::kYes
                                                     : FakePolkit::Says::kNo;
  });
  const auto answer =
      nobody->call(dbus::kRootPath, dbus::kKeyringInterface, "ReEncrypt", [&](sd_bus_message* m) {
        int r = append_blob(m, blob);
        if (r >= 0) r = append_context(m, "");
        if (r >= 0) r = ::sd_bus_message_append(m, "s", "other");
        if (r >= 0) r = append_context(m, "");
        return r < 0 ? r : no_options(m);
      });
  EXPECT_EQ(answer.error, "org.freedesktop.DBus.Error.AccessDenied");
  EXPECT_EQ(polkit->questions().back().details.at("alias"), "other");
}

TEST(KeysOnTheSystemBusTest, DescriptorsComeWithTheMethodsAloneThatTakeThem) {
  const PrivateBus bus(PrivateBus::Policy::kAsSystem);
  if (!bus.problem().empty()) GTEST_SKIP() << bus.problem();
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: there is no polkit on this bus";
  const auto loop = std::move(*ipc::EventLoop::make());
  SimEngine engine(*loop);
  const auto path = dbus::key_path(engine.add_key("default"));
  dbus::ServiceOptions options;
  options.address = bus.address();
  const auto service = std::move(*dbus::Service::start(*loop, engine, options));
  ASSERT_TRUE(run_until(*loop, [&] { return service->owns_name(); }));
  BusClient client(*loop, bus.address());
  const auto sealed = seal_secret(*SecretBytes::random(16));
  const auto call = [&](const char* method, int descriptors) {
    return client
        .call(path, dbus::kKeyInterface, method,
              [&](sd_bus_message* m) {
                const int fd = sealed->get();
                int r = 0;
                for (int i = 0; i < descriptors && r >= 0; ++i)
                  r = ::sd_bus_message_append_basic(m, 'h', &fd);
                if (r >= 0) r = ::sd_bus_message_append(m, "a{ss}", 0);
                return r < 0 ? r : no_options(m);
              })
        .error;
  };
  EXPECT_EQ(call("Encrypt", 1), "");
  EXPECT_EQ(call("Encrypt", 2), "org.freedesktop.DBus.Error.AccessDenied");
  EXPECT_EQ(call("Enable", 1), "org.freedesktop.DBus.Error.AccessDenied");
}

}  // namespace
}  // namespace coffer::tests
