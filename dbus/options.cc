// SPDX-License-Identifier: Apache-2.0
#include "dbus/options.h"

#include "dbus/names.h"

namespace coffer::dbus {
namespace {

template <class T, class Value>
Result<Value> as_value(Result<T> read) {
  if (!read) return tl::unexpected(read.error());
  return Value(std::move(*read));
}

template <class Value>
Result<Value> read_value(Reader& reader, char type) {
  switch (type) {
    case 'b':
      return as_value<bool, Value>(reader.boolean());
    case 'u': {
      const auto value = reader.u32();
      if (!value) return tl::unexpected(value.error());
      return Value(std::uint64_t{*value});
    }
    case 't':
      return as_value<std::uint64_t, Value>(reader.u64());
    case 'a':
      return as_value<std::vector<std::string>, Value>(reader.texts(kOptionsMax));
    default:
      return as_value<std::string, Value>(reader.text());
  }
}

const OptionSpec* find_spec(std::span<const OptionSpec> specs, std::string_view name) {
  for (const auto& spec : specs) {
    if (spec.name == name) return &spec;
  }
  return nullptr;
}

template <class Value>
Result<Value> read_variant(Reader& reader, const OptionSpec& spec) {
  const auto contents = reader.variant_contents();
  if (!contents) return tl::unexpected(contents.error());
  const std::string wanted = spec.type == 'a' ? "as" : std::string(1, spec.type);
  if (*contents != wanted)
    return fail(Reason::kInvalidArgs, "option " + std::string(spec.name) + " must be of type " +
                                          wanted + ", not " + printable_utf8(*contents));
  const auto entered = reader.enter(SD_BUS_TYPE_VARIANT, contents->c_str());
  if (!entered) return tl::unexpected(entered.error());
  auto value = read_value<Value>(reader, spec.type);
  if (!value) return value;
  if (const auto left = reader.exit(); !left) return tl::unexpected(left.error());
  return value;
}

}  // namespace

Result<Options> Options::read(Reader& reader, std::span<const OptionSpec> own, bool standard) {
  if (const auto entered = reader.enter(SD_BUS_TYPE_ARRAY, "{sv}"); !entered)
    return tl::unexpected(entered.error());

  Options options;
  for (;;) {
    const auto entry = reader.enter(SD_BUS_TYPE_DICT_ENTRY, "sv");
    if (!entry) return tl::unexpected(entry.error());
    if (!*entry) break;
    if (options.values_.size() == kOptionsMax)
      return fail(Reason::kLimitsExceeded, "more than 32 options");
    auto name = reader.text();
    if (!name) return tl::unexpected(name.error());

    const auto* spec = find_spec(own, *name);
    if (spec == nullptr && standard) spec = find_spec(kStandardOptions, *name);
    if (spec == nullptr)
      return fail(Reason::kInvalidArgs, "unknown option " + printable_utf8(*name));
    auto value = read_variant<Value>(reader, *spec);
    if (!value) return tl::unexpected(value.error());
    if (!options.values_.emplace(std::move(*name), std::move(*value)).second)
      return fail(Reason::kInvalidArgs, "option " + std::string(spec->name) + " is given twice");
    if (const auto left = reader.exit(); !left) return tl::unexpected(left.error());
  }
  if (const auto left = reader.exit(); !left) return tl::unexpected(left.error());

  if (options.text("reason").size() > kReasonBytesMax)
    return fail(Reason::kLimitsExceeded, "option reason is longer than 256 bytes");
  return options;
}

const Options::Value* Options::find(std::string_view name) const {
  const auto at = values_.find(name);
  return at == values_.end() ? nullptr : &at->second;
}

bool Options::flag(std::string_view name, bool otherwise) const {
  const auto* value = find(name);
  return value == nullptr ? otherwise : std::get<bool>(*value);
}

std::string Options::text(std::string_view name) const {
  return maybe_text(name).value_or("");
}

std::optional<std::string> Options::maybe_text(std::string_view name) const {
  const auto* value = find(name);
  if (value == nullptr) return std::nullopt;
  return std::get<std::string>(*value);
}

std::optional<std::uint64_t> Options::number(std::string_view name) const {
  const auto* value = find(name);
  if (value == nullptr) return std::nullopt;
  return std::get<std::uint64_t>(*value);
}

std::vector<std::string> Options::texts(std::string_view name) const {
  const auto* value = find(name);
  if (value == nullptr) return {};
  return std::get<std::vector<std::string>>(*value);
}

Result<void> Options::refuse(std::string_view name) const {
  const auto* value = find(name);
  if (value == nullptr) return {};
  const auto* flag = std::get_if<bool>(value);
  if (flag != nullptr && !*flag) return {};
  return fail(Reason::kUnsupported,
              "this method has no option " + std::string(name) + " that does anything");
}

Result<void> Options::refuse_modes() const {
  if (auto refused = refuse("dry-run"); !refused) return refused;
  return refuse("timeout-usec");
}

}  // namespace coffer::dbus
