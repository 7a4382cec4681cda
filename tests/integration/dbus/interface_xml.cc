// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/dbus/interface_xml.h"

#include <regex>

namespace coffer::tests {
namespace {

using Attributes = std::map<std::string, std::string>;

Attributes attributes_of(const std::string& tag) {
  static const std::regex kAttribute(R"xx(([A-Za-z]+)="([^"]*)")xx");
  Attributes attributes;
  for (std::sregex_iterator at(tag.begin(), tag.end(), kAttribute), end; at != end; ++at)
    attributes[(*at)[1]] = (*at)[2];
  return attributes;
}

}  // namespace

std::map<std::string, InterfaceXml> parse_interfaces(const std::string& xml) {
  std::map<std::string, InterfaceXml> interfaces;
  InterfaceXml* interface = nullptr;
  std::string member;
  const auto finish = [&] {
    if (interface != nullptr && !member.empty()) interface->members.insert(member);
    member.clear();
  };
  static const std::regex kTag(R"(<!--[\s\S]*?-->|<(/?)([a-z]+)([^>]*?)(/?)>)");
  for (std::sregex_iterator at(xml.begin(), xml.end(), kTag), end; at != end; ++at) {
    const std::string name = (*at)[2];
    if (name.empty()) continue;  // A comment.
    const bool closing = (*at)[1].length() > 0;
    const bool empty = (*at)[4].length() > 0;
    auto attributes = attributes_of((*at)[3]);
    const bool is_member = name == "method" || name == "signal" || name == "property";
    if (name == "interface" && !closing) interface = &interfaces[attributes["name"]];
    if (is_member && closing) finish();
    if (is_member && !closing) {
      member = name + " " + attributes["name"];
      if (name == "method" && interface != nullptr)
        interface->method_names.push_back(attributes["name"]);
      if (name == "property") member += " " + attributes["type"] + " " + attributes["access"];
      if (empty) finish();
    }
    if (name == "arg") {
      const bool out = attributes["direction"] == "out";
      member += (out ? " out " : " in ") + attributes["type"] + " " + attributes["name"];
      const bool input = !out && member.starts_with("method");
      if (input && interface != nullptr) interface->input_types.push_back(attributes["type"]);
    }
    if (name == "annotation" && !closing && !member.empty())
      member += " [" + attributes["name"] + "=" + attributes["value"] + "]";
  }
  return interfaces;
}

}  // namespace coffer::tests
