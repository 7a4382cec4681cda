// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

namespace coffer::tests {

// What introspection XML says of one interface: each member as one line of text that is the same
// whoever wrote the XML ("method Unlock in a{sv} options out o job", "property Id s const"), so
// that two sets can be compared and their difference read.
struct InterfaceXml {
  std::set<std::string> members;
  std::vector<std::string> method_names;
};

// By interface name. Takes what sd-bus prints and what stands in dbus/: elements, attributes and
// comments; nothing else of XML.
std::map<std::string, InterfaceXml> parse_interfaces(const std::string& xml);

}  // namespace coffer::tests
