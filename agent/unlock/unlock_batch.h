// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/volume/device_watch.h"
#include "agent/volume/registry.h"
#include "agent/worker/worker.h"
#include "core/audit/audit_log.h"
#include "core/base/clock.h"
#include "core/keyring/keyring.h"

// The unlock path (docs/architecture.md) is a row of stages over one batch of volumes. Each stage
// takes the targets that are still in the running one step on; a target that fails keeps its error
// and takes no part in what follows, and no other target notices. One volume is a batch of one.
//
//   find_candidates   which devices could be the volume        find_candidates.h
//   scan_headers      what stands in their headers             scan_headers.h
//   decide            whether this host opens it, with what    decide.h
//   record_intents    all of them, in one commit               record_unlock.h
//   announce_keys     the worker expects each key              announce_keys.h
//   deliver_keys      the vault sends them, by CMK             deliver_keys.h
//   collect_results   the mappings, as they come               collect_results.h
//   record_results    all of them, in one commit               record_unlock.h
//
// What follows, waiting for udev's links, is the engine's: it needs the event loop.
namespace coffer::agent {

// A device that could be a volume.
struct Candidate {
  std::string path;
  DiskIdentity identity;
  bool registered = false;  // It is the disk that the registry names.
  Disk disk{};              // As udev showed it.
};
struct ScannedCandidate {
  Candidate candidate;
  ScannedDevice device;
};

// A key of the volume that does not serve, and why.
struct SkippedKey {
  std::string name;  // "key <id>", or "wrap 2" of one that is unreadable.
  Error why;
};
// The wraps that can open a volume.
struct KeyChoice {
  std::vector<keyring::Presented> usable{};  // In the order of the token.
  std::size_t needed = 1;                    // So many of them.
  std::vector<SkippedKey> skipped{};
};
// The use of one of `usable` for this unlock, each with an intent of its own.
struct KeyUse {
  std::size_t which = 0;
  std::uint64_t intent = 0;
  bool asked_for = false;        // The vault was asked to deliver it.
  std::optional<Error> error{};  // Why it was not delivered.
};

// One volume on its way through the stages.
struct UnlockTarget {
  UnlockTarget(VolumeRow volume, bool by_name) : row(std::move(volume)), asked_by_name(by_name) {}

  VolumeRow row;
  bool asked_by_name;  // An admin named it: that ends a lock by an admin.

  // Filled in by the stages, in this order.
  std::vector<Candidate> candidates;      // The registered one first.
  std::string header_path;                // Of a detached header,
  Disk header_disk;                       // and what udev showed there.
  std::vector<ScannedCandidate> scanned;  // Those that could be opened.
  std::string device_path;                // Where the volume is.
  std::uint64_t device_bytes = 0;
  DeviceHandle handle = 0;
  std::optional<luks2::CheckedHeader> header;
  std::optional<luks2::Profile> profile;
  KeyChoice keys;
  std::vector<KeyUse> uses;  // The first `needed`, and one more for each that failed.
  bool announced = false;
  bool delivered = false;                 // Its key has reached the worker, or may have:
  std::optional<Error> delivery_unknown;  // the delivery was lost for this.
  std::optional<Activated> activated;

  std::optional<Error> error;  // Why it is out of the running.
  std::string note;            // What an operator should know although it opened.

  bool running() const noexcept { return !error && !activated; }
  void fail_with(const Error& cause) {
    if (running()) error = cause;
  }
  void add_note(const std::string& text) { note += (note.empty() ? "" : "; ") + text; }
};

// One delivery: targets that share a ticket. A member's place is its index in the ticket.
struct KeyGroup {
  keyring::Ticket ticket{};
  std::vector<std::size_t> members;  // Into UnlockBatch::targets.
};

struct UnlockBatch {
  std::vector<UnlockTarget> targets;
  audit::Actor actor;
  std::string operation = "volume.unlock";
  std::string request_id;   // "job-17"
  std::string reason_text;  // The caller's own words.
  bool read_only = false;
  bool dry_run = false;
  Action action = Action::kActivate;
  Deadline deadline{SteadyTime()};
  std::function<bool()> cancelled = [] { return false; };

  std::vector<KeyGroup> groups;

  bool any_running() const;
  void fail_running(const Error& cause);
};

// What the stages work with. Owns nothing.
struct UnlockParts {
  Worker& worker;
  keyring::Keyring& keyring;
  audit::AuditLog& log;
  const Clock& clock;
  std::string host_id;
};

}  // namespace coffer::agent
