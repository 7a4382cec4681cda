// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/token.h"

#include <algorithm>
#include <charconv>

#include "core/base/encoding.h"
#include "core/luks2/header.h"
#include "core/luks2/json.h"

namespace coffer::luks2 {
namespace {

constexpr std::uint32_t kVersion = 1;

tl::unexpected<Error> invalid(std::string_view what) {
  return fail(Reason::kTokenInvalid, "coffer token: " + std::string(what));
}

bool within(const std::vector<Bytes>& blobs, std::size_t bytes_max) {
  return std::ranges::all_of(
      blobs, [bytes_max](const Bytes& blob) { return !blob.empty() && blob.size() <= bytes_max; });
}

// The limit that `token` breaks, or null: the same for what is read and what is written.
const char* fault(const Token& token) {
  if (token.generation == 0) return "generation is 0";
  if (token.context.empty() || token.context.size() > kTokenContextBytesMax) return "context: size";
  if (token.wraps.empty() || token.wraps.size() > kTokenWrapsMax) return "wraps: none or too many";
  if (!within(token.wraps, kTokenWrapBytesMax)) return "wraps: size of one";
  if (token.records.size() > kTokenRecordsMax) return "records: too many";
  if (!within(token.records, kTokenRecordBytesMax)) return "records: size of one";
  if (token.threshold == 0 || token.threshold > token.wraps.size()) return "threshold";
  if (token.keyslots.size() > kObjectsMax) return "keyslots: too many";
  const auto known = [](std::uint32_t id) { return id < kObjectsMax; };
  if (!std::ranges::all_of(token.keyslots, known)) return "keyslots: number";
  return nullptr;
}

void print_blobs(std::string& out, const std::vector<Bytes>& blobs) {
  out.push_back('[');
  std::string_view between;
  for (const auto& blob : blobs) {
    out.append(between).append("\"").append(to_base64(blob)).append("\"");
    between = ",";
  }
  out.push_back(']');
}

bool read_blob(const JsonValue* value, Bytes& out) {
  if (value == nullptr || !value->is_string()) return false;
  auto bytes = from_base64(value->string());
  if (!bytes) return false;
  out = std::move(*bytes);
  return true;
}

bool read_blobs(const JsonValue* value, std::size_t count_max, std::vector<Bytes>& out) {
  if (value == nullptr || !value->is_array() || value->items().size() > count_max) return false;
  for (const auto& item : value->items()) {
    if (!read_blob(&item, out.emplace_back())) return false;
  }
  return true;
}

// Decimal digits in their one spelling.
bool read_number(const JsonValue* value, std::uint64_t& out) {
  if (value == nullptr || !value->is_string()) return false;
  const std::string& text = value->string();
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && std::to_string(out) == text;
}

bool read_keyslots(const JsonValue* value, std::vector<std::uint32_t>& out) {
  if (value == nullptr || !value->is_array() || value->items().size() > kObjectsMax) return false;
  for (const auto& item : value->items()) {
    std::uint64_t id = 0;
    if (!read_number(&item, id) || id >= kObjectsMax) return false;
    out.push_back(static_cast<std::uint32_t>(id));
  }
  return true;
}

bool is_uint32(const JsonValue* value, std::uint32_t wanted) {
  return value != nullptr && value->as_uint32() == wanted;
}

}  // namespace

Result<std::string> print_token(const Token& token) {
  if (const char* const what = fault(token)) return invalid(what);
  std::string out = R"({"type":"coffer","keyslots":[)";
  std::string_view between;
  for (const std::uint32_t id : token.keyslots) {
    out.append(between).append("\"").append(std::to_string(id)).append("\"");
    between = ",";
  }
  out += R"(],"version":1,"generation":")" + std::to_string(token.generation);
  out += R"(","threshold":)" + std::to_string(token.threshold);
  out += R"(,"context":")" + to_base64(token.context) + R"(","wraps":)";
  print_blobs(out, token.wraps);
  out += R"(,"records":)";
  print_blobs(out, token.records);
  out.push_back('}');
  if (out.size() > kTokenJsonBytesMax) {
    return fail(Reason::kTokenSpace,
                "coffer token: " + std::to_string(out.size()) + " bytes of JSON");
  }
  return out;
}

Result<Token> parse_token(std::string_view json) {
  if (json.size() > kTokenJsonBytesMax) return invalid("too long");
  auto root = JsonValue::parse(json, 3);
  if (!root) return invalid(root.error().message());
  const JsonValue* const type = root->find("type", JsonValue::Kind::kString);
  if (type == nullptr || type->string() != kTokenType) return invalid("of another type");
  if (!is_uint32(root->find("version"), kVersion)) return invalid("unknown version");
  if (root->keep_only({"type", "keyslots", "version", "generation", "threshold", "context", "wraps",
                       "records"})) {
    return invalid("an unknown member");
  }

  Token token;
  if (!read_keyslots(root->find("keyslots"), token.keyslots)) return invalid("keyslots");
  if (!read_number(root->find("generation"), token.generation)) return invalid("generation");
  const JsonValue* const threshold = root->find("threshold");
  const auto needed = threshold == nullptr ? std::nullopt : threshold->as_uint32();
  if (!needed || *needed > kTokenWrapsMax) return invalid("threshold");
  token.threshold = static_cast<std::uint8_t>(*needed);
  if (!read_blob(root->find("context"), token.context)) return invalid("context");
  if (!read_blobs(root->find("wraps"), kTokenWrapsMax, token.wraps)) return invalid("wraps");
  if (!read_blobs(root->find("records"), kTokenRecordsMax, token.records))
    return invalid("records");
  if (const char* const what = fault(token)) return invalid(what);
  return token;
}

}  // namespace coffer::luks2
