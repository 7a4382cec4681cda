// SPDX-License-Identifier: Apache-2.0
#include "hsm/vault_config.h"

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <fmt/format.h>
#include <toml++/toml.h>

#include <cstdint>

#include "core/base/bytes.h"
#include "core/base/files.h"
#include "core/base/plain_toml.h"

namespace coffer::hsm {
namespace {

constexpr std::size_t kPathBytesMax = 1024;
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

  Result<void> finish() const {
    if (table_.empty()) return {};
    return refuse(printable(table_.begin()->first.str(), 64), "is not a key of it");
  }

 private:
  toml::table& table_;
};

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
  const Result<void> steps[] = {
      keys.path("module", true, out.module_path),
      keys.text("token", true, out.uri_text),
      keys.path("state", true, out.state_folder),
      keys.path("pin_file", false, out.pin_file),
      keys.path("softhsm_conf", false, out.softhsm_conf),
      keys.number("sessions", 1, 64, sessions),
      keys.number("call_deadline_ms", 100, 60000, deadline),
  };
  for (const auto& step : steps) {
    if (!step) return tl::unexpected(step.error());
  }
  if (const auto end = keys.finish(); !end) return tl::unexpected(end.error());
  auto uri = Pkcs11Uri::parse(out.uri_text);
  if (!uri) return tl::unexpected(uri.error());
  if (!uri->names_token()) return refuse("token", "must name a token");
  out.uri = std::move(*uri);
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
  text("state", state_folder);
  text("pin_file", pin_file);
  text("softhsm_conf", softhsm_conf);
  out += fmt::format("sessions = {}\ncall_deadline_ms = {}\n", sessions, call_deadline.count());
  return out;
}

}  // namespace coffer::hsm
