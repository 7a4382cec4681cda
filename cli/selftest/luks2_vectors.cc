// SPDX-License-Identifier: Apache-2.0
#include "cli/selftest/luks2_vectors.h"

#include <algorithm>
#include <map>

#include "cli/selftest/vector_file.h"
#include "cli/selftest/vector_json.h"
#include "core/base/files.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kStartBytesMax = std::size_t{8} << 20;
constexpr std::size_t kUnpackedBytesMax = std::size_t{256} << 20;

HeaderCase header_case(const json::object& entry, const json::object& root) {
  HeaderCase out;
  out.group = text_of(entry, "class");
  out.name = text_of(entry, "case");
  out.file = text_of(entry, "file");
  out.profile = text_of(entry, "profile");
  out.device_bytes = number_of(entry, "device_size");
  const json::object& reference = entry.at("reference").as_object();
  out.reference_accepts = flag_of(reference, "accept");
  out.epoch = number_of(reference, "epoch");
  out.json_sha256 = text_of(reference, "json_sha256");
  out.rewritten_by_tool = flag_of(reference, "rewritten_by_tool");
  if (out.group == "torn") {
    out.allowed_json_sha256 = {text_of(root, "torn_old_json_sha256"),
                               text_of(root, "torn_new_json_sha256")};
  }
  return out;
}

Result<VolumeCase> volume_case(const json::object& entry, const std::filesystem::path& folder) {
  VolumeCase out;
  out.name = text_of(entry, "case");
  out.uuid = text_of(entry, "uuid");
  out.cipher = text_of(entry, "cipher");
  out.sector_bytes = static_cast<std::uint32_t>(number_of(entry, "sector_size"));
  out.passphrase = text_of(entry, "passphrase_utf8") + text_of(entry, "passphrase");
  out.plaintext_sha256 = text_of(entry, "plaintext_sha256");
  out.volume_key = hex_of(entry, "volume_key_hex");

  auto header = read_xz_file(folder / text_of(entry, "header_file"), kUnpackedBytesMax);
  if (!header) return tl::unexpected(header.error());
  out.header = std::move(*header);
  out.header.resize(std::max<std::size_t>(out.header.size(), number_of(entry, "header_bytes")));
  auto data = read_file((folder / text_of(entry, "data_file")).string(), kUnpackedBytesMax);
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
