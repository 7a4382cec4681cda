// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cli/selftest/sector_cipher.h"
#include "cli/selftest/suites.h"
#include "cli/selftest/vector_file.h"
#include "cli/selftest/vector_json.h"
#include "core/luks2/header.h"
#include "core/luks2/json.h"
#include "hsm/pkcs11_uri.h"

namespace coffer::cli {
namespace {

using boost::json::object;
using RunCase = void (*)(const object&, FileReport&);

Result<FileReport> run_cases(const std::filesystem::path& path, RunCase run) {
  const auto root = read_json_file(path);
  if (!root) return tl::unexpected(root.error());
  FileReport report;
  for (const auto& entry : root->as_object().at("cases").as_array()) run(entry.as_object(), report);
  return report;
}

void run_sectors(const object& entry, FileReport& report) {
  const std::string cipher = text_of(entry, "cipher");
  const SectorParams params{cipher, static_cast<std::uint32_t>(number_of(entry, "sector_size")),
                            number_of(entry, "iv_offset_512"), flag_of(entry, "iv_large_sectors")};
  const Bytes ciphertext = base64_of(entry, "ciphertext_b64");
  const auto plain = decrypt_sectors(params, hex_of(entry, "key_hex"), ciphertext);
  const bool right = plain && !plain->empty() && *plain == counter_blocks("dmcrypt", plain->size());
  report.count(right, text_of(entry, "case"));
}

// Whether a text that RFC 8259 allows is refused because two readers could see two things in it
// (core/luks2/json.h).
bool stricter_by_choice(std::string_view name) {
  return name.starts_with("y_object_duplicated_key") ||
         name.find("null_escape") != std::string_view::npos ||
         name.find("escaped_null") != std::string_view::npos;
}

void run_json(const object& entry, FileReport& report) {
  const std::string name = text_of(entry, "case");
  const std::string expect = text_of(entry, "expect");
  const Bytes text = base64_of(entry, "bytes_b64");
  const bool taken = luks2::JsonValue::parse(as_text(text), luks2::kJsonDepthMax).has_value();
  if (expect == "accept" && !taken && stricter_by_choice(name)) {
    report.skip("refused by choice: a member twice, an escaped NUL");
    return;
  }
  report.count(expect == "either" || taken == (expect == "accept"), name);
}

std::optional<Bytes> bytes_of(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  const ByteView bytes = as_bytes(*text);
  return Bytes(bytes.begin(), bytes.end());
}

// A field that is not what the reference reads; a stricter reader may refuse the text as a whole.
bool same_fields(const hsm::Pkcs11Uri& uri, const object& fields) {
  const auto same = [&fields](std::string_view name, const std::optional<Bytes>& found) {
    const bool given = fields.if_contains(name) != nullptr;
    return given == found.has_value() && (!given || hex_of(fields, name) == *found);
  };
  const auto same_number = [&fields](std::string_view name, std::optional<std::uint64_t> found) {
    const bool given = fields.if_contains(name) != nullptr;
    return given == found.has_value() && (!given || number_of(fields, name) == *found);
  };
  return same("token", bytes_of(uri.token)) && same("object", bytes_of(uri.object)) &&
         same("model", bytes_of(uri.model)) && same("serial", bytes_of(uri.serial)) &&
         same("manufacturer", bytes_of(uri.manufacturer)) && same("id", uri.id) &&
         same_number("slot_id", uri.slot_id) && same_number("class", uri.object_class);
}

void run_uri(const object& entry, FileReport& report) {
  const std::string text = text_of(entry, "uri");
  const auto uri = hsm::Pkcs11Uri::parse(text);
  const bool reference_takes = text_of(entry, "reference") == "ok";
  if (!uri) {
    if (reference_takes) {
      report.skip("refused by choice: repeated or unknown attributes, a query, blanks");
    } else {
      report.count(true, text);
    }
    return;
  }
  report.count(reference_takes && same_fields(*uri, entry.at("fields").as_object()), text);
}

}  // namespace

Result<FileReport> run_sector_vectors(const std::filesystem::path& folder,
                                      const VectorSuite& suite) {
  return run_cases(folder / suite.file, run_sectors);
}
Result<FileReport> run_json_vectors(const std::filesystem::path& folder, const VectorSuite& suite) {
  return run_cases(folder / suite.file, run_json);
}
Result<FileReport> run_uri_vectors(const std::filesystem::path& folder, const VectorSuite& suite) {
  return run_cases(folder / suite.file, run_uri);
}

}  // namespace coffer::cli
