// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "core/base/sealed_secret.h"
#include "dbus/paths.h"
#include "tests/integration/dbus/dbus_fixture.h"

namespace coffer::tests {

// One key of the simulated engine, and calls of it and of the keyring by an administrator.
class KeysTest : public DbusTest {
 protected:
  static constexpr const char* kInvalidArgs = "org.freedesktop.DBus.Error.InvalidArgs";

  static std::string ours(const char* name) { return std::string(kDbusErrorPrefix) + name; }

  static BusClient::Fill flag(const char* option) {
    return
        [=](sd_bus_message* m) { return ::sd_bus_message_append(m, "a{sv}", 1, option, "b", 1); };
  }
  static BusClient::Fill text(const char* option, const std::string& value) {
    return [=](sd_bus_message* m) {
      return ::sd_bus_message_append(m, "a{sv}", 1, option, "s", value.c_str());
    };
  }
  static BusClient::Fill number(std::uint32_t value) {
    return [=](sd_bus_message* m) {
      const int r = ::sd_bus_message_append(m, "u", value);
      return r < 0 ? r : no_options(m);
    };
  }

  static int append_context(sd_bus_message* m, const std::string& value) {
    return value.empty() ? ::sd_bus_message_append(m, "a{ss}", 0)
                         : ::sd_bus_message_append(m, "a{ss}", 1, "disk", value.c_str());
  }
  static int append_blob(sd_bus_message* m, const Bytes& bytes) {
    return dbus::append_bytes(m, bytes);
  }

  static Bytes bytes_of(sd_bus_message* m) {
    const void* data = nullptr;
    std::size_t size = 0;
    if (::sd_bus_message_read_array(m, 'y', &data, &size) <= 0) return {};
    const auto* first = static_cast<const std::byte*>(data);
    return {first, first + size};
  }
  static std::string secret_of(sd_bus_message* m) {
    int fd = -1;
    if (::sd_bus_message_read_basic(m, 'h', &fd) <= 0) return "no descriptor";
    const auto secret = read_sealed_secret(fd, 4096);
    return secret ? std::string(as_text(secret->reveal())) : secret.error().str();
  }

  void SetUp() override {
    DbusTest::SetUp();
    if (IsSkipped()) return;
    id = engine->keys().front().record.id;
    path = dbus::key_path(id);
  }
  Answer on_key(const char* method, const BusClient::Fill& fill) {
    return admin->call(path, dbus::kKeyInterface, method, fill);
  }
  Answer on_keyring(const char* method, const BusClient::Fill& fill) {
    return admin->call(dbus::kRootPath, dbus::kKeyringInterface, method, fill);
  }
  Answer create(const std::string& alias, const BusClient::Fill& options = no_options) {
    return on_keyring("CreateKey", [&](sd_bus_message* m) {
      const int r = ::sd_bus_message_append(m, "s", alias.c_str());
      return r < 0 ? r : options(m);
    });
  }
  std::string property(const char* name) {
    return admin->text_property(path, dbus::kKeyInterface, name);
  }
  std::uint64_t time_property(const char* name) {
    const auto answer = admin->call(path, "org.freedesktop.DBus.Properties", "Get", [&](auto* m) {
      return ::sd_bus_message_append(m, "ss", dbus::kKeyInterface, name);
    });
    std::uint64_t time = 0;
    if (answer.ok()) ::sd_bus_message_read(answer.message.get(), "v", "t", &time);
    return time;
  }
  std::vector<std::string> aliases(const BusClient::Fill& filter) {
    const auto answer = on_keyring("ListKeys", filter);
    EXPECT_TRUE(answer.ok()) << answer.error << answer.text;
    std::vector<std::string> found;
    const char *key, *alias, *state, *object;
    std::uint32_t version = 0;
    if (!answer.ok()) return found;
    ::sd_bus_message_enter_container(answer.message.get(), 'a', "(sssuo)");
    while (::sd_bus_message_read(answer.message.get(), "(sssuo)", &key, &alias, &state, &version,
                                 &object) > 0)
      found.emplace_back(alias);
    return found;
  }
  // The method says each of `reasons` by its name when the engine does.
  void expect_errors(const std::function<Answer()>& call, std::initializer_list<Reason> reasons) {
    for (const Reason reason : reasons) {
      engine->fail_next(Error(reason, "as the test asked"));
      EXPECT_EQ(call().error, dbus_error_name(reason));
    }
  }

  Answer encrypt(const std::string& plain, const std::string& context = "") {
    const auto sealed = seal_secret(*SecretBytes::copy_of(as_bytes(plain)));
    return encrypt_fd(sealed->get(), context);
  }
  Answer encrypt_fd(int fd, const std::string& context = "") {
    return on_key("Encrypt", [&](sd_bus_message* m) {
      int r = ::sd_bus_message_append_basic(m, 'h', &fd);
      if (r >= 0) r = append_context(m, context);
      return r < 0 ? r : no_options(m);
    });
  }
  Answer decrypt(const Bytes& blob, const std::string& context = "") {
    return on_keyring("Decrypt", [&](sd_bus_message* m) {
      int r = append_blob(m, blob);
      if (r >= 0) r = append_context(m, context);
      return r < 0 ? r : no_options(m);
    });
  }

  CmkId id{Uuid()};
  std::string path;
};

}  // namespace coffer::tests
