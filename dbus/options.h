// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/base/result.h"
#include "dbus/message.h"

namespace coffer::dbus {

// One option that a method takes: its key in the a{sv}, and the type of its value: 's', 'b', 'u',
// 't', or 'a' for a list of texts (as).
struct OptionSpec {
  std::string_view name;
  char type;
};

// Every mutating method takes these besides its own. `dry-run` and `timeout-usec` are refused with
// kUnsupported by methods that have no such mode, never ignored.
inline constexpr OptionSpec kStandardOptions[] = {
    {"auth.no_user_interaction", 'b'}, {"timeout-usec", 't'}, {"dry-run", 'b'}, {"reason", 's'}};

// Options is an a{sv} that was checked: every key is one the method knows, of the type it wants,
// and given once.
class Options {
 public:
  // Reads the a{sv} that comes next. kInvalidArgs: an unknown key, a wrong type, a key given twice;
  // kLimitsExceeded.
  static Result<Options> read(Reader& reader, std::span<const OptionSpec> own, bool standard);

  bool flag(std::string_view name, bool otherwise = false) const;
  std::string text(std::string_view name) const;  // "" when absent.
  std::optional<std::string> maybe_text(std::string_view name) const;
  std::optional<std::uint64_t> number(std::string_view name) const;
  std::vector<std::string> texts(std::string_view name) const;  // Empty when absent.

  bool interactive() const { return !flag("auth.no_user_interaction"); }
  bool dry_run() const { return flag("dry-run"); }

  // kUnsupported when an option was set that this method cannot honour.
  Result<void> refuse(std::string_view name) const;
  // The same for `dry-run` and `timeout-usec`, of a method that has neither.
  Result<void> refuse_modes() const;

 private:
  using Value = std::variant<bool, std::uint64_t, std::string, std::vector<std::string>>;
  const Value* find(std::string_view name) const;
  std::map<std::string, Value, std::less<>> values_;
};

}  // namespace coffer::dbus
