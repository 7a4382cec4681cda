// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/engine.h"
#include "agent/unlock/unlock_batch.h"
#include "agent/volume/device_watch.h"
#include "agent/volume/registry.h"
#include "core/base/clock.h"

namespace coffer::agent {

// A volume as the running agent knows it.
struct Volume {
  VolumeRow row;
  VolumeInfo info;
  bool present = false;  // Its device is there, as far as udev says.
  bool open = false;     // Its mapping is there and serves.
  bool lingering =
      false;              // A mapping of it is there that does not serve: forced off, or unplugged.
  bool tried = false;     // The agent has tried to open it by itself since its device came.
  bool retry = false;     // That failed for a reason that may pass: try again,
  SteadyTime retry_at{};  // not before this,
  std::chrono::milliseconds retry_wait{0};  // and each time later.
  bool gone_told = false;                   // That its device went away while it was open.
  bool recover_tried = false;  // Completing its provisioning was tried since its device came;
  std::optional<SteadyTime> recover_at;       // it waits or may go better: again at this time,
  std::chrono::milliseconds recover_wait{0};  // and each time later.
  bool recover_waits = false;    // When it was tried last its device was not there or failed.
  std::uint64_t changed_at = 0;  // VolumeTable::now() of the last operation on it.
};

// VolumeTable is the agent's picture of its volumes: rows of the registry with what udev, the
// worker and the last operations said. Every change goes to the observer.
//
// Bound to the event loop.
class VolumeTable {
 public:
  explicit VolumeTable(std::string provider) : provider_(std::move(provider)) {}

  void set_observer(EngineObserver* observer) noexcept { observer_ = observer; }

  Volume* find(const VolumeId& id);
  const Volume* find(const VolumeId& id) const;
  std::vector<VolumeId> ids() const;
  std::vector<VolumeInfo> infos() const;
  std::size_t size() const noexcept { return volumes_.size(); }
  std::uint32_t count(VolumeState state) const;
  std::uint32_t count_using(const CmkId& key) const;  // Kept, not counted anew.
  // Of those, how many are not opened by their other keys; `serves` says which of these do.
  std::uint32_t count_needing(const CmkId& key,
                              const std::function<bool(const CmkId&)>& serves) const;

  // A UUID, a name, or a path of its device or mapping. kNoSuchVolume, kAmbiguousVolume.
  Result<VolumeId> resolve(const std::string& spec) const;

  // Adds the volume of `row`, or gives the one there is that row.
  Volume& put(const VolumeRow& row);
  void erase(const VolumeId& id);

  void set_state(Volume& volume, VolumeState state, const std::string& reason);
  void set_failed(Volume& volume, const Error& error);
  void set_header(Volume& volume, const luks2::CheckedHeader& header, std::uint64_t device_bytes);
  // What udev shows now. Absent and present follow from it, for volumes that are not open.
  void set_disks(std::span<const Disk> disks);

  // Counts operations: what was looked up before one ended says nothing about its volume.
  std::uint64_t now() const noexcept { return sequence_; }
  void mark_changed(Volume& volume) noexcept { volume.changed_at = ++sequence_; }

  // Where a volume is, if it is anywhere.
  static const Disk* locate(const VolumeRow& row, std::span<const Disk> disks);

 private:
  void fill(Volume& volume) const;
  void tell(const Volume& volume, VolumeState before);
  void count_keys(const std::vector<CmkId>& before, const std::vector<CmkId>& now);

  const std::string provider_;
  EngineObserver* observer_ = nullptr;
  std::map<VolumeId, Volume> volumes_;
  std::map<VolumeId, std::vector<std::string>> paths_;  // Of their disks, for resolve().
  std::map<CmkId, std::uint32_t> uses_;                 // How many volumes' rows name the key.
  std::uint64_t sequence_ = 0;
};

}  // namespace coffer::agent
