// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "agent/worker/dm_control.h"
#include "agent/worker/worker.h"
#include "core/base/clock.h"
#include "core/base/result.h"

namespace coffer::agent {

// Mappings is what the worker knows and does about the device-mapper devices of LUKS2 volumes.
// Which of them are ours, files in a folder say (by dm UUID, made before the mapping): it outlives
// the process, and the udev rule reads it.
//
// Thread-safe.
class Mappings {
 public:
  using OpenControl = std::function<Result<DmControl>()>;

  explicit Mappings(std::string mark_folder, OpenControl control = DmControl::open)
      : mark_folder_(std::move(mark_folder)), control_(std::move(control)) {}

  bool possible() const { return control_().has_value(); }  // Device-mapper can be asked.

  // All LUKS2 mappings, ours and others'. None where the kernel has no device-mapper.
  Result<std::vector<Mapping>> list() const;
  Result<Mapping> find(const std::string& name) const;  // kNotUnlocked

  Result<void> mark(const std::string& dm_uuid) const;
  void unmark(const std::string& dm_uuid) const noexcept;
  // Takes away the marks of mappings that went by themselves, deferred. Only before any activation:
  // a mark is made before its mapping.
  void unmark_stale() const;

  // While it lives, clean() leaves the mapping of `dm_uuid` alone: until its resume, one that is
  // being made cannot be told from one that a killed process left.
  class Making {
   public:
    Making(const Mappings& mappings, std::string dm_uuid);
    ~Making();
    Making(const Making&) = delete;
    Making& operator=(const Making&) = delete;

   private:
    const Mappings& mappings_;
    const std::string dm_uuid_;
  };

  // DmControl::probe_crypt() under a name of its own, whose file in the folder is locked as long as
  // the mapping may be there: so nobody takes it for one that was left.
  Result<void> probe(const DmControl::CryptProbe& probe) const;
  // Takes away the probes of processes that were killed over them, and the files of those that have
  // no mapping. Gives the names of the mappings.
  Result<std::vector<std::string>> clean_probes() const;

  // Before an activation: nothing, when the name is free, after taking away a mapping of `volume`
  // that a killed process left without a table. kAlreadyUnlocked: ours is open; kMappingForeign:
  // another one has the name, or somebody else opened the volume.
  Result<void> make_room(const std::string& name, const VolumeId& volume) const;

  // The mapping of `volume` with that name, once nobody has it open: udev looks into new ones.
  //   kNotUnlocked, kMappingForeign, kBusy: the message names the holders.
  Result<Mapping> await_unused(const std::string& name, const VolumeId& volume,
                               Deadline deadline) const;

  // As Worker::deactivate() and clean_mappings().
  Result<void> deactivate(const std::string& name, const VolumeId& volume, DeactivateMode mode,
                          Deadline deadline) const;
  Result<std::vector<Mapping>> clean() const;

  // Who has it: file systems mounted from it, and devices on top. "" when that cannot be seen.
  static std::string holders_of(const Mapping& mapping);

 private:
  Result<Mapping> look_at(const DmControl& control, const std::string& name) const;
  void unmark_lone_probes(const DmControl& control) const;
  Result<void> remove(const DmControl& control, const Mapping& mapping, bool deferred,
                      Deadline deadline) const;

  std::string mark_folder_;
  OpenControl control_;
  mutable std::mutex mutex_;  // Guards making_; held by clean() for as long as it removes.
  mutable std::set<std::string, std::less<>> making_;  // By dm UUID.
};

}  // namespace coffer::agent
