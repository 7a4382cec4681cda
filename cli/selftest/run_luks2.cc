// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cli/selftest/luks2_vectors.h"
#include "cli/selftest/sector_cipher.h"
#include "cli/selftest/suites.h"
#include "cli/selftest/vector_file.h"
#include "core/base/encoding.h"
#include "core/crypto/digest.h"
#include "core/luks2/activation_rules.h"
#include "core/luks2/digest.h"
#include "core/luks2/header.h"

namespace coffer::cli {
namespace {

// The reference's verdict, its hash and epoch; more may be refused in the classes json-* alone, and
// what must not be activated is refused naming a field.
bool header_passes(const HeaderCase& one) {
  const auto examined = luks2::examine_header(device_start(one), one.device_bytes);
  const auto* const header = std::get_if<luks2::Header>(&examined);
  const bool must_refuse = one.profile == "must-refuse";
  if (header == nullptr) {
    const bool may_refuse = !one.reference_accepts || one.group.starts_with("json-");
    return may_refuse && !std::get<luks2::Refusal>(examined).field.empty();
  }
  if (!one.reference_accepts || header->epoch != one.epoch) return false;
  if (!one.rewritten_by_tool && to_hex(header->json_sha256) != one.json_sha256) return false;
  if (!one.allowed_json_sha256.empty() &&
      std::ranges::find(one.allowed_json_sha256, to_hex(header->json_sha256)) ==
          one.allowed_json_sha256.end()) {
    return false;
  }
  const auto refusal = luks2::activation_refusal(*header);
  return !must_refuse || (refusal && !refusal->field.empty());
}

bool volume_passes(const VolumeCase& one) {
  const auto header = luks2::parse_header(one.header, one.header.size());
  if (!header || header->uuid_text != one.uuid) return false;
  const auto digest =
      luks2::key_digest_of(*header, static_cast<std::uint32_t>(one.volume_key.size()));
  const auto key = SecretBytes::copy_of(one.volume_key);
  if (!digest || !key || !luks2::check_volume_key(*digest, *key)) return false;
  const SectorParams params{one.cipher, one.sector_bytes, 0, false};
  const auto plain = decrypt_sectors(params, one.volume_key, one.data);
  return plain && to_hex(crypto::sha256(*plain)) == one.plaintext_sha256 &&
         *plain == counter_blocks(one.plaintext_name, plain->size());
}

bool inprogress_passes(const VolumeCase& one) {
  const auto header = luks2::parse_header(one.header, one.header.size());
  if (!header || !header->reencryption()) return false;
  const auto refusal = luks2::activation_refusal(*header);
  return refusal && refusal->reason == Reason::kHeaderUnusual;
}

Result<FileReport> run_volumes(Result<std::vector<VolumeCase>> cases,
                               bool (*passes)(const VolumeCase&)) {
  if (!cases) return tl::unexpected(cases.error());
  FileReport report;
  for (const auto& one : *cases) report.count(passes(one), one.name);
  return report;
}

}  // namespace

Result<FileReport> run_header_vectors(const std::filesystem::path& folder,
                                      const VectorSuite& /*suite*/) {
  const auto cases = load_header_cases(folder / "luks2");
  if (!cases) return tl::unexpected(cases.error());
  FileReport report;
  for (const auto& one : *cases) report.count(header_passes(one), one.file + " " + one.name);
  return report;
}

Result<FileReport> run_volume_vectors(const std::filesystem::path& folder,
                                      const VectorSuite& /*suite*/) {
  return run_volumes(load_volume_cases(folder / "luks2"), volume_passes);
}

Result<FileReport> run_inprogress_vectors(const std::filesystem::path& folder,
                                          const VectorSuite& /*suite*/) {
  return run_volumes(load_inprogress_cases(folder / "luks2"), inprogress_passes);
}

}  // namespace coffer::cli
