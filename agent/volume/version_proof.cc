// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/version_proof.h"

#include <algorithm>

#include "agent/unlock/choose_keys.h"
#include "agent/unlock/decide.h"
#include "agent/unlock/find_candidates.h"
#include "agent/unlock/scan_headers.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kNamedMax = 10;
constexpr std::size_t kBatchMax = 512;  // Volumes whose devices are held open at once.

Result<void> require_no_wrap(const luks2::Token& token, const VersionUse& use,
                             const std::string& where) {
  for (const Bytes& wrap : token.wraps) {
    const auto blob = keyring::WrappedKey::decode(wrap);
    if (!blob) return pass(blob.error(), "read a wrap on " + where);
    if (blob->cmk == use.key && blob->cmk_version == use.version) {
      return fail(Reason::kKeyBound, "its key is wrapped under version " +
                                         std::to_string(use.version) + " on " + where);
    }
  }
  return {};
}

// Copies of the volume that are plugged in open under their own wraps.
Result<void> require_no_copy(const UnlockTarget& target, const VersionUse& use) {
  for (const auto& [candidate, device] : target.scanned) {
    if (device.handle == target.handle) continue;
    const auto& header = device.header;
    if (!header || header->uuid != target.row.id.uuid() || !header->token) continue;
    if (auto none = require_no_wrap(*header->token, use, "its copy " + candidate.path); !none) {
      return none;
    }
  }
  return {};
}

Result<void> check_one(UnlockTarget& target, const VersionUse& use) {
  if (target.error) return tl::unexpected(*target.error);
  if (auto chosen = choose_header(target); !chosen) return chosen;
  if (const auto own = check_token(target.row, *target.header); !own) {
    return tl::unexpected(own.error());
  }
  if (auto none = require_no_wrap(*target.header->token, use, target.device_path); !none) {
    return none;
  }
  // The copy that was not read may be an older one, and be all that is left some day.
  if (target.header->copies != luks2::Copies::kBoth) {
    return fail(Reason::kHeaderDamaged, "a copy of its header is damaged or older: rewrap it");
  }
  return require_no_copy(target, use);
}

void prove_batch(std::span<const VolumeRow> rows, const VersionUse& use,
                 std::span<const Disk> disks, Deadline deadline, Worker& worker,
                 VersionProof& proof) {
  UnlockBatch batch;
  batch.deadline = deadline;
  for (const VolumeRow& row : rows) {
    UnlockTarget& target = batch.targets.emplace_back(row, true);
    if (row.state != RowState::kReady) {
      target.fail_with(Error(Reason::kInProgress, "it is being provisioned"));
    }
  }
  find_candidates(batch.targets, disks);
  scan_headers(batch, worker);
  for (UnlockTarget& target : batch.targets) {
    const auto free = check_one(target, use);
    if (!free) proof.doubts.push_back({target.row.name, free.error()});
  }
  release_unchosen(batch, worker);
  release_chosen(batch, worker);
}

}  // namespace

Result<VersionProof> prove_unused(const VersionUse& use, std::span<const Disk> disks,
                                  Deadline deadline, const LifeParts& parts) {
  const auto known = parts.registry.load();
  if (!known) return tl::unexpected(known.error());
  VersionProof proof;
  proof.volumes = known->rows.size() + known->damaged.size();
  for (const std::string& id : known->damaged) {
    proof.doubts.push_back({id, Error(Reason::kStoreDamaged, "its registry entry is damaged")});
  }
  const std::span<const VolumeRow> rows(known->rows);
  for (std::size_t from = 0; from < rows.size(); from += kBatchMax) {
    const auto part = rows.subspan(from, std::min(kBatchMax, rows.size() - from));
    prove_batch(part, use, disks, deadline, parts.unlock.worker, proof);
  }
  return proof;
}

Result<void> require_unused(const VersionUse& use, const VersionProof& proof) {
  if (proof.holds()) return {};
  std::string text = "version " + std::to_string(use.version) + " of key " + use.key.str() +
                     " may be needed by " + std::to_string(proof.doubts.size()) + " of " +
                     std::to_string(proof.volumes) + " volumes";
  const std::size_t named = std::min(kNamedMax, proof.doubts.size());
  for (std::size_t i = 0; i < named; ++i) {
    text += "; " + proof.doubts[i].name + ": " + proof.doubts[i].why.message();
  }
  if (named < proof.doubts.size()) text += "; and others";
  return fail(Reason::kKeyBound, text);
}

}  // namespace coffer::agent
