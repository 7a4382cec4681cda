// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/first_opening.h"

#include "agent/unlock/unlock_pipeline.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kFileSystemLabelBytesMax = 12;

Result<Activated> open(const VolumeRow& row, std::span<const Disk> disks, const LifeCall& call,
                       const LifeParts& parts) {
  UnlockBatch batch;
  batch.actor = call.actor;
  batch.request_id = call.request_id;
  batch.reason_text = call.reason_text;
  batch.deadline = call.deadline;
  batch.targets.emplace_back(row, true);
  run_unlock(batch, disks, parts.unlock);
  const UnlockTarget& target = batch.targets.front();
  if (target.activated) return *target.activated;
  const Error error = target.error.value_or(Error(Reason::kInternal, "no result"));
  if (error.reason() == Reason::kAlreadyUnlocked) return Activated{};
  return tl::unexpected(error);
}

}  // namespace

bool lacks_file_system(const VolumeRow& row) {
  return row.state == RowState::kReady && !row.file_system.empty() && !row.file_system_made &&
         row.last_unlock == WallTime{};
}

Result<FirstOpening> open_first(VolumeRow& row, std::span<const Disk> disks, const LifeCall& call,
                                const LifeParts& parts) {
  const auto activated = open(row, disks, call, parts);
  if (!activated) return tl::unexpected(activated.error());
  parts.reached("open");
  FirstOpening opening{.activated = *activated, .note = {}};
  if (lacks_file_system(row)) {
    const auto made = parts.unlock.worker.make_file_system(
        row.mapped_name, row.id, row.file_system, row.name.substr(0, kFileSystemLabelBytesMax),
        call.deadline);
    // The one that was begun before a restart may still be at it.
    if (!made && made.error().reason() == Reason::kBusy) return tl::unexpected(made.error());
    row.file_system_made = made.has_value();
    if (made) {
      parts.reached("file system");
    } else {
      opening.note = "no file system: " + made.error().str();
    }
  }
  // From here on the volume is its admin's: nothing is made on it by itself any more.
  row.last_unlock = parts.unlock.clock.wall();
  if (const auto stored = parts.registry.put(row); !stored) {
    opening.note += (opening.note.empty() ? "" : "; ") + ("not noted: " + stored.error().str());
  }
  return opening;
}

}  // namespace coffer::agent
