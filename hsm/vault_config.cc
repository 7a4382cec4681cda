// SPDX-License-Identifier: Apache-2.0
#include "hsm/vault_config.h"

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <fmt/format.h>
#include <toml++/toml.h>

#include <cstdint>
#include <initializer_list>
#include <utility>

#include "core/base/bytes.h"
#include "core/base/files.h"
#include "core/base/plain_toml.h"

namespace coffer::hsm {
namespace {

constexpr std::size_t kPathBytesMax = 1024;
constexpr std::int64_t kSdfKekMax = 65535;
constexpr std::size_t kSdfSerialBytesMax = 16;  // GM/T 0018's DEVICEINFO has no more.
constexpr std::string_view kSdfHardware = "hardware";
constexpr std::string_view kSdfSoftware = "software";
constexpr std::string_view kSource = "vault configuration";

tl::unexpected<Error> refuse(std::string_view key, std::string_view why) {
  return fail(Reason::kConfigInvalid, fmt::format("{}: {} {}", kSource, key, why));
}

// Takes keys out of the table, so that what is left at the end is unknown.
class Keys {
 public:
  explicit Keys(toml::table& table) : table_(table) {}

  Result<void> text(std::string_view key, bool required, std::string& out) {
    auto* node = table_.get(key);
    if (node == nullptr) {
      if (required) return refuse(key, "is missing");
      return {};
    }
    const auto value = node->value_exact<std::string>();
    if (!value || value->empty()) return refuse(key, "must be a text");
    if (value->size() > kPathBytesMax || printable(*value, kPathBytesMax) != *value)
      return refuse(key, "must be printable and at most 1024 bytes");
    // Quotes and backslashes would need escapes when the file is written; no path here needs them.
    if (value->find_first_of("\"\\") != std::string::npos)
      return refuse(key, "must not hold quotes or backslashes");
    out = *value;
    table_.erase(key);
    return {};
  }

  Result<void> path(std::string_view key, bool required, std::string& out) {
    if (const auto read = text(key, required, out); !read) return read;
    if (!out.empty() && out.front() != '/') return refuse(key, "must be an absolute path");
    return {};
  }

  Result<void> number(std::string_view key, std::int64_t least, std::int64_t most,
                      std::int64_t& out) {
    auto* node = table_.get(key);
    if (node == nullptr) return {};
    const auto value = node->value_exact<std::int64_t>();
    if (!value || *value < least || *value > most)
      return refuse(key, fmt::format("must be a number from {} to {}", least, most));
    out = *value;
    table_.erase(key);
    return {};
  }

  // Refuses whatever is there of `keys`, which belong to another kind of token than `ours`.
  Result<void> none_of(std::initializer_list<std::string_view> keys, std::string_view ours) const {
    for (const auto key : keys) {
      if (table_.contains(key)) return refuse(key, fmt::format("does not go with {}", ours));
    }
    return {};
  }

  Result<void> finish() const {
    if (table_.empty()) return {};
    return refuse(printable(table_.begin()->first.str(), 64), "is not a key of it");
  }

 private:
  toml::table& table_;
};

Result<void> read_pkcs11(Keys& keys, VaultConfig& out) {
  const Result<void> steps[] = {
      keys.none_of({"sdf_kek", "sdf_serial", "sdf_kind"}, "module"),
      keys.path("module", true, out.module_path),
      keys.text("token", true, out.uri_text),
      keys.path("pin_file", false, out.pin_file),
      keys.path("softhsm_conf", false, out.softhsm_conf),
  };
  for (const auto& step : steps) {
    if (!step) return step;
  }
  auto uri = Pkcs11Uri::parse(out.uri_text);
  if (!uri) return tl::unexpected(uri.error());
  if (!uri->names_token()) return refuse("token", "must name a token");
  out.uri = std::move(*uri);
  return {};
}

Result<void> read_sdf(Keys& keys, VaultConfig& out) {
  std::int64_t kek = 0;
  std::string kind{kSdfSoftware};
  const Result<void> steps[] = {
      keys.none_of({"module", "token", "pin_file", "softhsm_conf"}, "sdf_library"),
      keys.path("sdf_library", true, out.sdf_library),
      keys.number("sdf_kek", 1, kSdfKekMax, kek),
      keys.text("sdf_serial", false, out.sdf_serial),
      keys.text("sdf_kind", false, kind),
  };
  for (const auto& step : steps) {
    if (!step) return step;
  }
  // No default: a wrong key encryption key is nothing that a vault should come by.
  if (kek == 0) return refuse("sdf_kek", "is missing");
  if (out.sdf_serial.size() > kSdfSerialBytesMax)
    return refuse("sdf_serial", "must have at most 16 characters");
  if (kind != kSdfHardware && kind != kSdfSoftware)
    return refuse("sdf_kind", "must be hardware or software");
  out.sdf_kek = static_cast<unsigned>(kek);
  out.sdf_hardware = kind == kSdfHardware;
  return {};
}

}  // namespace

Result<VaultConfig> VaultConfig::parse(std::string_view text) {
  if (text.size() > kTextBytesMax) return refuse("the file", "has more than 16 KiB");
  const auto plain = plain_toml(text, kSource);
  if (!plain) return tl::unexpected(plain.error());
  auto parsed = toml::parse(std::string_view(*plain), kSource);
  if (!parsed)
    return refuse("the file", fmt::format("is not TOML: {} (line {})", parsed.error().description(),
                                          parsed.error().source().begin.line));
  Keys keys(parsed.table());
  VaultConfig out;
  auto sessions = static_cast<std::int64_t>(out.sessions);
  std::int64_t deadline = out.call_deadline.count();
  const bool is_sdf = parsed.table().contains("sdf_library");
  const auto kind = is_sdf ? read_sdf(keys, out) : read_pkcs11(keys, out);
  if (!kind) return tl::unexpected(kind.error());
  const Result<void> steps[] = {
      keys.path("state", true, out.state_folder),
      keys.number("sessions", 1, 64, sessions),
      keys.number("call_deadline_ms", 100, 60000, deadline),
  };
  for (const auto& step : steps) {
    if (!step) return tl::unexpected(step.error());
  }
  if (const auto end = keys.finish(); !end) return tl::unexpected(end.error());
  out.sessions = static_cast<std::size_t>(sessions);
  out.call_deadline = std::chrono::milliseconds(deadline);
  return out;
}

Result<VaultConfig> VaultConfig::read(const std::string& path) {
  const auto file = read_file(path, kTextBytesMax);
  if (!file) return fail(Reason::kConfigInvalid, file.error().message());
  auto config = parse(as_text(*file));
  if (!config) return pass(config.error(), path);
  return config;
}

std::string VaultConfig::to_text() const {
  std::string out = "# The token this vault serves; see vault-config.md. Written by coffer init.\n";
  const auto text = [&](std::string_view key, std::string_view value) {
    if (!value.empty()) out += fmt::format("{} = \"{}\"\n", key, value);
  };
  text("module", module_path);
  text("token", uri_text);
  if (!sdf_library.empty()) {
    text("sdf_library", sdf_library);
    out += fmt::format("sdf_kek = {}\n", sdf_kek);
    text("sdf_serial", sdf_serial);
    text("sdf_kind", sdf_hardware ? kSdfHardware : kSdfSoftware);
  }
  text("state", state_folder);
  text("pin_file", pin_file);
  text("softhsm_conf", softhsm_conf);
  out += fmt::format("sessions = {}\ncall_deadline_ms = {}\n", sessions, call_deadline.count());
  return out;
}

}  // namespace coffer::hsm
