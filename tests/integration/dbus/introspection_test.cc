// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "dbus/actions.h"
#include "dbus/paths.h"
#include "tests/integration/dbus/dbus_fixture.h"
#include "tests/integration/dbus/interface_xml.h"
#include "tests/support/paths.h"

namespace coffer::tests {
namespace {

std::string read_text(const std::filesystem::path& path) {
  const std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// All interfaces of dbus/*.xml.
std::map<std::string, InterfaceXml> source_interfaces() {
  std::map<std::string, InterfaceXml> all;
  for (const auto& entry : std::filesystem::directory_iterator(source_dir() / "dbus")) {
    if (entry.path().extension() == ".xml") all.merge(parse_interfaces(read_text(entry.path())));
  }
  return all;
}

class IntrospectionTest : public DbusTest {
 protected:
  // What the service tells of itself, over one object of each kind.
  std::map<std::string, InterfaceXml> live_interfaces() {
    const auto volume = engine->add_volume("vol-a");
    const auto job = engine->verify({volume}, {});
    const auto key = engine->keys().front().record.id;
    std::map<std::string, InterfaceXml> all;
    for (const auto& path :
         {std::string(dbus::kRootPath), dbus::volume_path(volume), dbus::job_path(*job),
          dbus::key_path(key), dbus::provider_path("local")}) {
      const auto answer = admin->call(path, "org.freedesktop.DBus.Introspectable", "Introspect");
      const char* xml = nullptr;
      if (answer.ok() && ::sd_bus_message_read(answer.message.get(), "s", &xml) > 0)
        all.merge(parse_interfaces(xml));
    }
    std::erase_if(all, [](const auto& entry) { return !entry.first.starts_with("org.coffer."); });
    return all;
  }
};

TEST_F(IntrospectionTest, TheXmlInTheTreeIsWhatTheServiceTells) {
  const auto source = source_interfaces();
  const auto live = live_interfaces();
  std::set<std::string> source_names;
  std::set<std::string> live_names;
  for (const auto& [name, interface] : source) source_names.insert(name);
  for (const auto& [name, interface] : live) live_names.insert(name);
  EXPECT_EQ(source_names, live_names);
  EXPECT_EQ(source_names.size(), 7U);
  for (const auto& [name, interface] : source) {
    SCOPED_TRACE(name);
    if (live.contains(name)) {
      EXPECT_EQ(interface.members, live.at(name).members);
    }
  }
}

TEST_F(IntrospectionTest, EveryMethodHasAnActionAndEveryActionRowAMethod) {
  std::set<std::string> methods;
  for (const auto& [name, interface] : live_interfaces()) {
    for (const auto& method : interface.method_names) {
      methods.insert(std::string(name).append(".").append(method));
      const auto* row = dbus::find_method_action(name, method);
      EXPECT_NE(row, nullptr) << name << "." << method << " has no row in dbus/actions.cc";
    }
  }
  std::set<std::string> rows;
  for (const auto& row : dbus::method_actions())
    rows.insert(std::string(row.interface) + "." + std::string(row.member));
  EXPECT_EQ(rows, methods);
}

TEST_F(IntrospectionTest, EveryActionIsInThePolicyFileWithItsOwner) {
  const auto policy = read_text(source_dir() / "dbus" / "org.coffer.Agent1.policy");
  for (const auto& row : dbus::method_actions()) {
    if (row.action == std::string(dbus::kActionOfTheJob)) continue;
    const auto at = policy.find("<action id=\"" + std::string(row.action) + "\">");
    ASSERT_NE(at, std::string::npos) << row.action;
    const auto action = policy.substr(at, policy.find("</action>", at) - at);
    EXPECT_NE(action.find("org.freedesktop.policykit.owner\">unix-user:coffer<"),
              std::string::npos);
    // Nothing but looking is given without a password.
    const bool free = action.find("<allow_any>yes<") != std::string::npos;
    EXPECT_EQ(free, row.action == std::string(dbus::kActionRead)) << row.action;
    EXPECT_EQ(action.find("<allow_active>yes<") != std::string::npos, free) << row.action;
  }
  for (const auto* never_kept :
       {dbus::kActionProvision, dbus::kActionForget, dbus::kActionDeleteKeys}) {
    const auto at = policy.find("<action id=\"" + std::string(never_kept) + "\">");
    const auto action = policy.substr(at, policy.find("</action>", at) - at);
    EXPECT_EQ(action.find("keep"), std::string::npos) << never_kept;
  }
}

TEST_F(IntrospectionTest, WhatOfAProviderMayChangeIsTold) {
  std::set<std::string> may_change;
  const auto interfaces = source_interfaces();
  for (const auto& member : interfaces.at(dbus::kKeyProviderInterface).members) {
    const bool is_constant = member.find("EmitsChangedSignal=const") != std::string::npos;
    if (!member.starts_with("property ") || is_constant) continue;
    const auto start = member.find(' ') + 1;
    may_change.insert(member.substr(start, member.find(' ', start) - start));
  }
  ASSERT_TRUE(may_change.contains("Kind"));
  admin->listen("org.freedesktop.DBus.Properties");
  engine->fail_provider(Error(Reason::kHsmAbsent, "gone"));
  EXPECT_TRUE(run_until(*loop, [&] { return !admin->changed_properties().empty(); }));
  EXPECT_EQ(admin->changed_properties(), may_change);
}

TEST_F(IntrospectionTest, TheManualNamesEveryMemberAndEveryError) {
  const auto manual = read_text(source_dir() / "docs" / "man" / "org.coffer.Agent1.5.md");
  for (const auto& [name, interface] : source_interfaces()) {
    const auto at = manual.find("## INTERFACE " + name + "\n");
    ASSERT_NE(at, std::string::npos) << name;
    const auto section = manual.substr(at, manual.find("\n## ", at + 1) - at);
    for (const auto& member : interface.members) {
      const auto start = member.find(' ') + 1;
      const auto word = member.substr(start, member.find(' ', start) - start);
      const bool named = section.find("- `" + word + "`") != std::string::npos ||
                         section.find("- `" + word + "(") != std::string::npos;
      EXPECT_TRUE(named) << name << "." << word << " is not in the manual";
    }
  }
  for (const auto& row : all_reasons()) {
    std::string line = "| `";
    line.append(row.name).append("` | ").append(retryable_name(row.retryable)).append(" | ");
    line.append(std::to_string(row.exit_status)).append(" | ").append(row.meaning).append(" |\n");
    EXPECT_NE(manual.find(line), std::string::npos) << "the manual lacks: " << line;
  }
  for (const auto& row : dbus::method_actions()) {
    if (row.action == std::string(dbus::kActionOfTheJob)) continue;
    const auto word =
        std::string_view(row.action).substr(std::string_view(dbus::kBusName).size() + 1);
    EXPECT_NE(manual.find("| `" + std::string(word) + "` |"), std::string::npos) << word;
  }
}

// What an operator needs has arguments that busctl can send, and the bus's policy names every
// method that takes a descriptor.
TEST_F(IntrospectionTest, OnlyMethodsThatUseKeysTakeBytesOrDescriptors) {
  const auto policy = read_text(source_dir() / "dbus" / "org.coffer.Agent1.conf");
  std::set<std::string> take_descriptors;
  for (const auto& [name, interface] : source_interfaces()) {
    const bool is_of_keys = name == dbus::kKeyInterface || name == dbus::kKeyringInterface;
    for (const auto& member : interface.members) {
      if (!member.starts_with("method ")) continue;
      const auto method = member.substr(7, member.find(' ', 7) - 7);
      EXPECT_TRUE(is_of_keys || member.find("in ay") == std::string::npos) << member;
      if (member.find("in h ") == std::string::npos) continue;
      take_descriptors.insert(method);
      EXPECT_EQ(name, dbus::kKeyInterface);
      EXPECT_NE(policy.find("send_member=\"" + method + "\" max_fds=\"1\""), std::string::npos)
          << method;
    }
  }
  EXPECT_EQ(take_descriptors, (std::set<std::string>{"Encrypt", "ImportMaterial"}));
}

TEST_F(IntrospectionTest, EveryMutatingMethodEndsInOptions) {
  const std::set<std::string> reading{"GetVolume",  "ListJobs", "GetResults",
                                      "GetDetails", "Verify",   "GetKey"};
  for (const auto& row : dbus::method_actions()) {
    const bool reads = row.action == std::string(dbus::kActionRead) ||
                       row.action == std::string(dbus::kActionReadAudit);
    if (reads) continue;
    const auto interfaces = source_interfaces();
    const auto& members = interfaces.at(std::string(row.interface)).members;
    const auto wanted = "method " + std::string(row.member) + " ";
    const auto at = std::find_if(members.begin(), members.end(),
                                 [&](const auto& member) { return member.starts_with(wanted); });
    ASSERT_NE(at, members.end()) << row.member;
    EXPECT_NE(at->find("in a{sv} options"), std::string::npos) << *at;
  }
}

}  // namespace
}  // namespace coffer::tests
