// SPDX-License-Identifier: Apache-2.0
#include "cli/selftest/luks2_vectors.h"

#include <algorithm>
#include <boost/json.hpp>
#include <map>

#include "cli/selftest/vector_file.h"
#include "core/base/encoding.h"
#include "core/base/files.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kStartBytesMax = std::size_t{8} << 20;
constexpr std::size_t kUnpackedBytesMax = std::size_t{256} << 20;

std::string text(const json::object& object, std::string_view name) {
  const auto* const value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->get_string().c_str())
                                                : std::string();
}

std::uint64_t number(const json::object& object, std::string_view name) {
  const auto* const value = object.if_contains(name);
  return value != nullptr && value->is_number() ? value->to_number<std::uint64_t>() : 0;
}

bool flag(const json::object& object, std::string_view name) {
  const auto* const value = object.if_contains(name);
  return value != nullptr && value->is_bool() && value->get_bool();
}

HeaderCase header_case(const json::object& entry, const json::object& root) {
  HeaderCase out;
  out.group = text(entry, "class");
  out.name = text(entry, "case");
  out.file = text(entry, "file");
  out.profile = text(entry, "profile");
  out.device_bytes = number(entry, "device_size");
  const json::object& reference = entry.at("reference").as_object();
  out.reference_accepts = flag(reference, "accept");
  out.epoch = number(reference, "epoch");
  out.json_sha256 = text(reference, "json_sha256");
  out.rewritten_by_tool = flag(reference, "rewritten_by_tool");
  if (out.group == "torn") {
    out.allowed_json_sha256 = {text(root, "torn_old_json_sha256"),
                               text(root, "torn_new_json_sha256")};
  }
  return out;
}

Result<VolumeCase> volume_case(const json::object& entry, const std::filesystem::path& folder) {
  VolumeCase out;
  out.name = text(entry, "case");
  out.uuid = text(entry, "uuid");
  out.cipher = text(entry, "cipher");
  out.sector_bytes = static_cast<std::uint32_t>(number(entry, "sector_size"));
  out.passphrase = text(entry, "passphrase_utf8") + text(entry, "passphrase");
  out.plaintext_sha256 = text(entry, "plaintext_sha256");
  if (auto key = from_hex(text(entry, "volume_key_hex"))) out.volume_key = std::move(*key);

  auto header = read_xz_file(folder / text(entry, "header_file"), kUnpackedBytesMax);
  if (!header) return tl::unexpected(header.error());
  out.header = std::move(*header);
  out.header.resize(std::max<std::size_t>(out.header.size(), number(entry, "header_bytes")));
  auto data = read_file((folder / text(entry, "data_file")).string(), kUnpackedBytesMax);
  if (!data) return tl::unexpected(data.error());
  out.data = std::move(*data);
  return out;
}

Result<std::vector<VolumeCase>> load(const std::filesystem::path& folder, const char* file) {
  const auto root = read_json_file(folder / file);
  if (!root) return tl::unexpected(root.error());
  std::vector<VolumeCase> cases;
  for (const auto& entry : root->as_object().at("cases").as_array()) {
    auto one = volume_case(entry.as_object(), folder);
    if (!one) return tl::unexpected(one.error());
    cases.push_back(std::move(*one));
  }
  return cases;
}

}  // namespace

Result<std::vector<HeaderCase>> load_header_cases(const std::filesystem::path& folder) {
  const auto root = read_json_file(folder / "headers.json");
  if (!root) return tl::unexpected(root.error());
  const auto archive = read_xz_file(folder / "headers.tar.xz", kUnpackedBytesMax);
  if (!archive) return tl::unexpected(archive.error());
  auto members = read_tar(*archive);
  if (!members) return tl::unexpected(members.error());
  std::map<std::string, Bytes> by_name;
  for (auto& member : *members) {
    const auto name = std::filesystem::path(member.name).filename().string();
    by_name[name] = std::move(member.content);
  }

  std::vector<HeaderCase> cases;
  for (const auto& entry : root->as_object().at("cases").as_array()) {
    cases.push_back(header_case(entry.as_object(), root->as_object()));
    const auto found = by_name.find(cases.back().file);
    if (found == by_name.end())
      return fail(Reason::kNoSuchFile, "headers.tar.xz: " + cases.back().file);
    cases.back().start = found->second;
  }
  return cases;
}

Bytes device_start(const HeaderCase& header_case) {
  Bytes start = header_case.start;
  start.resize(std::min<std::uint64_t>(header_case.device_bytes, kStartBytesMax));
  return start;
}

Result<std::vector<VolumeCase>> load_volume_cases(const std::filesystem::path& folder) {
  auto cases = load(folder, "volumes.json");
  if (cases) {
    for (auto& one : *cases) one.plaintext_name = one.name;
  }
  return cases;
}

Result<std::vector<VolumeCase>> load_inprogress_cases(const std::filesystem::path& folder) {
  auto cases = load(folder, "inprogress.json");
  if (cases) {
    for (auto& one : *cases) one.plaintext_name = "ipa";
  }
  return cases;
}

}  // namespace coffer::cli
