// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/dbus/interface_xml.h"

#include <string_view>

namespace coffer::tests {
namespace {

using Attributes = std::map<std::string, std::string>;

struct Tag {
  std::string name;
  Attributes attributes;
  bool closing = false;  // </name>
  bool empty = false;    // <name/>
};

// name="value" and so on.
Attributes attributes_of(std::string_view text) {
  Attributes attributes;
  for (;;) {
    const auto equals = text.find("=\"");
    if (equals == std::string_view::npos) return attributes;
    const auto end = text.find('"', equals + 2);
    if (end == std::string_view::npos) return attributes;
    const auto start = text.find_last_of(" \n\t", equals);
    attributes[std::string(text.substr(start + 1, equals - start - 1))] =
        text.substr(equals + 2, end - equals - 2);
    text.remove_prefix(end + 1);
  }
}

// The elements in order; comments, declarations and texts are left out.
std::vector<Tag> tags_of(std::string_view xml) {
  std::vector<Tag> tags;
  for (std::size_t at = xml.find('<'); at != std::string_view::npos; at = xml.find('<', at)) {
    const bool comment = xml.substr(at).starts_with("<!--");
    const auto end = comment ? xml.find("-->", at) : xml.find('>', at);
    if (end == std::string_view::npos) break;
    auto inside = xml.substr(at + 1, end - at - 1);
    at = end;
    if (inside.starts_with('!') || inside.starts_with('?')) continue;
    Tag tag;
    tag.closing = inside.starts_with('/');
    if (tag.closing) inside.remove_prefix(1);
    tag.empty = inside.ends_with('/');
    if (tag.empty) inside.remove_suffix(1);
    tag.name = inside.substr(0, inside.find_first_of(" \n\t"));
    tag.attributes = attributes_of(inside.substr(tag.name.size()));
    tags.push_back(std::move(tag));
  }
  return tags;
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
  for (auto& [name, attributes, closing, empty] : tags_of(xml)) {
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
    }
    if (name == "annotation" && !closing && !member.empty())
      member += " [" + attributes["name"] + "=" + attributes["value"] + "]";
  }
  return interfaces;
}

}  // namespace coffer::tests
