// SPDX-License-Identifier: Apache-2.0
#include "agent/config.h"

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include <algorithm>
#include <array>

#include "agent/engine_types.h"
#include "core/base/bytes.h"
#include "core/base/files.h"
#include "core/base/plain_toml.h"
#include "core/base/vault_name.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kPathBytesMax = 90;  // Leaves room for a socket's name in sockaddr_un.

// Reader takes known keys out of one table and remembers the first thing that is wrong.
class Reader {
 public:
  Reader(toml::table& root, std::string_view source) : root_(root), source_(source) {}

  void path(const char* table, const char* key, std::string& value) {
    const auto node = take(table, key);
    if (!node) return;
    const auto text = node.value<std::string>();
    const bool good = node.is_string() && text && !text->empty() && text->front() == '/' &&
                      text->size() <= kPathBytesMax && printable(*text, kPathBytesMax) == *text;
    if (!good) return wrong(table, key, "must be an absolute path of at most 90 bytes");
    value = *text;
  }

  void token_name(const char* table, const char* key, std::string& value) {
    const auto node = take(table, key);
    if (!node) return;
    const auto text = node.value<std::string>();
    const bool good = node.is_string() && text && is_vault_name(*text);
    if (!good) return wrong(table, key, std::string("must be ") + kVaultNameRule);
    value = *text;
  }

  void seconds(const char* table, const char* key, std::int64_t most, std::chrono::seconds& value) {
    std::int64_t number = value.count();
    if (integer(table, key, most, number)) value = std::chrono::seconds(number);
  }

  void count(const char* table, const char* key, std::int64_t most, std::uint32_t& value) {
    std::int64_t number = value;
    if (integer(table, key, most, number)) value = static_cast<std::uint32_t>(number);
  }

  void require(bool holds, const char* what) {
    if (!holds && problem_.empty()) problem_ = what;
  }

  // Whatever was not taken is unknown.
  Result<void> finish() {
    for (const auto& [name, node] : root_) {
      if (!problem_.empty()) break;
      const auto* table = node.as_table();
      if (table == nullptr || !known_table(name.str())) {
        problem_ = "unknown key \"" + printable(name.str(), 64) + "\"";
      } else if (!table->empty()) {
        problem_ = "unknown key \"" + printable(name.str(), 64) + "." +
                   printable(table->begin()->first.str(), 64) + "\"";
      }
    }
    if (problem_.empty()) return {};
    return fail(Reason::kConfigInvalid, std::string(source_) + ": " + problem_);
  }

 private:
  static bool known_table(std::string_view name) {
    constexpr std::array<std::string_view, 7> kTables = {"paths", "vault",  "boot", "unlock",
                                                         "jobs",  "rewrap", "retry"};
    return std::find(kTables.begin(), kTables.end(), name) != kTables.end();
  }

  // The node of the key, taken out of its table; it stays alive until the next take().
  toml::node_view<toml::node> take(const char* table, const char* key) {
    auto* found = root_[table].as_table();
    if (found == nullptr || !found->contains(key)) return {};
    taken_.insert_or_assign("node", std::move(*found->get(key)));
    found->erase(key);
    return taken_["node"];
  }

  bool integer(const char* table, const char* key, std::int64_t most, std::int64_t& value) {
    const auto node = take(table, key);
    if (!node) return false;
    const auto number = node.value<std::int64_t>();
    if (!node.is_integer() || !number || *number < 1 || *number > most) {
      wrong(table, key, "must be a whole number from 1 to " + std::to_string(most));
      return false;
    }
    value = *number;
    return true;
  }

  void wrong(const char* table, const char* key, const std::string& what) {
    if (problem_.empty()) problem_ = std::string(table) + "." + key + " " + what;
  }

  toml::table& root_;
  std::string_view source_;
  toml::table taken_;
  std::string problem_;
};

void read_all(Reader& reader, Config& config) {
  reader.path("paths", "state", config.state_folder);
  reader.path("paths", "run", config.run_folder);
  reader.path("paths", "host_id", config.host_id_file);
  reader.token_name("vault", "token", config.vault_token);
  reader.token_name("vault", "standby", config.vault_standby);
  reader.require(config.vault_standby != config.vault_token,
                 "vault.standby must be another token than vault.token");
  // units/boot_wait.cc and the unit it runs in wait a little longer than this.
  reader.seconds("boot", "deadline_seconds", 150, config.boot_deadline);
  reader.seconds("boot", "device_wait_seconds", 3600, config.boot_device_wait);
  reader.seconds("boot", "retry_wait_seconds", 3600, config.boot_retry_wait);
  reader.seconds("unlock", "timeout_seconds", 3600, config.unlock_timeout);
  reader.seconds("unlock", "settle_seconds", 600, config.settle_timeout);
  reader.seconds("unlock", "lock_timeout_seconds", 3600, config.lock_timeout);
  reader.count("unlock", "batch_max", 1024, config.batch_max);
  reader.count("jobs", "jobs_max", 4096, config.jobs_max);
  reader.count("jobs", "jobs_per_caller_max", 4096, config.jobs_per_caller_max);
  reader.count("rewrap", "per_minute", kRewrapsPerMinuteMax, config.rewraps_per_minute);
  reader.seconds("retry", "min_seconds", 600, config.retry_min);
  reader.seconds("retry", "max_seconds", 3600, config.retry_max);
  reader.require(config.retry_min <= config.retry_max,
                 "retry.min_seconds must not be more than retry.max_seconds");
}

}  // namespace

Result<Config> parse_config(std::string_view text, std::string_view source) {
  if (text.size() > kConfigBytesMax) {
    return fail(Reason::kConfigInvalid, std::string(source) + ": larger than 64 KiB");
  }
  const auto plain = plain_toml(text, source);
  if (!plain) return tl::unexpected(plain.error());
  auto parsed = toml::parse(std::string_view(*plain), source);
  if (!parsed) {
    const auto& at = parsed.error().source().begin;
    return fail(Reason::kConfigInvalid, std::string(source) + ": line " + std::to_string(at.line) +
                                            ": " + printable(parsed.error().description(), 200));
  }
  Config config;
  Reader reader(parsed.table(), source);
  read_all(reader, config);
  if (const auto good = reader.finish(); !good) return tl::unexpected(good.error());
  return config;
}

Result<Config> load_config(const std::string& path) {
  const auto bytes = read_file(path, kConfigBytesMax);
  if (!bytes && bytes.error().reason() == Reason::kNoSuchFile) return Config();
  if (!bytes && bytes.error().reason() == Reason::kLimitsExceeded) {
    return fail(Reason::kConfigInvalid, path + ": larger than 64 KiB");
  }
  if (!bytes) return pass(bytes.error(), "read the configuration");
  return parse_config(as_text(*bytes), path);
}

}  // namespace coffer::agent
