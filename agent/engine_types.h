// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/id.h"
#include "core/base/result.h"
#include "core/keyring/cmk_record.h"
#include "core/keyring/key_store.h"

namespace coffer::agent {

using JobId = std::uint32_t;

// Who asks. `bus_name` is the unique name of a D-Bus caller, "" for the agent's own work.
struct Caller {
  std::uint32_t uid = 0;
  std::string bus_name{};
  std::string origin{};         // "dbus", "boot", "hotplug", "startup", "recovery"
  std::string polkit_action{};  // The action that allowed it, "" for uid 0.
  std::string reason{};         // The caller's own words for the audit trail; at most 256 bytes.
};

enum class VolumeState : std::uint8_t {
  kAbsent,
  kProvisioning,
  kLocked,
  kUnlocking,
  kUnlocked,
  kLocking,
  kFailed,  // The last unlock failed: last_error says why.
};
std::string_view volume_state_name(VolumeState state) noexcept;  // "absent", "locked", …

// A wrapped key in a volume's token.
struct VolumeKey {
  CmkId cmk;
  std::uint32_t version = 0;  // Of the CMK that wraps it; 0 when the token was not read yet.
  std::string provider;       // "local"
};

// What is known of a volume; the properties of org.coffer.Agent1.Volume come from here.
struct VolumeInfo {
  VolumeId id{Uuid()};
  std::string name;           // 1 to 64 of [A-Za-z0-9_.-], unique on the host.
  std::string device;         // The stable path it is known by: /dev/disk/by-id/…
  std::string device_node;    // Where it is now: /dev/sda; "" when absent.
  std::string header_device;  // "" when the header is on the device.
  std::string mapped_name;    // /dev/mapper/<mapped_name>
  VolumeState state = VolumeState::kAbsent;
  std::string state_reason;  // "locked by an admin", "opened at boot", …
  std::optional<Error> last_error;
  bool automatic = true;  // Opened at boot and when plugged in.
  bool locked_by_admin = false;
  bool read_only = false;
  std::vector<VolumeKey> keys;
  std::uint32_t threshold = 1;  // So many of the keys open it, together.
  std::uint64_t generation = 0;
  std::string cipher;
  std::uint32_t key_bits = 0;
  std::uint32_t sector_bytes = 0;
  std::uint64_t size_bytes = 0;      // Of the data segment.
  std::uint64_t metadata_bytes = 0;  // Of one copy of the header.
  std::uint64_t metadata_free_bytes = 0;
  std::string header_copies;  // "both", "primary-bad", "secondary-bad", "" when not read yet.
  std::int32_t token_id = -1;
  std::vector<std::uint32_t> foreign_keyslots;
  std::vector<std::uint32_t> owned_keyslots;
  std::string file_system;  // "ext4", … when Coffer made one.
  std::string origin;       // Of the key in use: "hsm", "none" while locked.
  WallTime last_unlock{};   // Zero: never.
  std::chrono::microseconds last_unlock_duration{0};
};

enum class JobState : std::uint8_t {
  kQueued,
  kRunning,
  kDone,
  kPartial,
  kFailed,
  kCancelled,
  kTimedOut
};
std::string_view job_state_name(
    JobState state) noexcept;  // "queued", "running", "done", "partial", …

// One volume's result in a job.
struct JobItem {
  VolumeId volume{Uuid()};
  std::string name;
  std::string result;  // "pending", "done", "failed", "skipped", "cancelled"
  std::optional<Error> error;
  std::string note;  // "opened from the second header copy", …
  WallTime started{};
  std::chrono::microseconds usable{0};   // From the job's start until the node answers.
  std::chrono::microseconds settled{0};  // Until udev has made its links; 0 when unknown.
};

struct JobInfo {
  JobId id = 0;
  std::string operation;  // "unlock", "lock", "provision", "adopt", "verify", "rewrap", …
  JobState state = JobState::kQueued;
  std::uint32_t total = 0;
  std::uint32_t done = 0;  // Finished items, good or bad.
  std::uint32_t failed = 0;
  std::vector<VolumeId> volumes;
  std::uint32_t started_by_uid = 0;
  bool cancelable = true;
  WallTime started{};
  WallTime ended{};  // Zero while it runs.
  // Should the rest take as long as what is done. Zero: nothing is done yet, or all.
  WallTime expected_end{};
  // Of work that is measured in bytes: how many it is about, and how many a second. Else zero.
  std::uint64_t bytes = 0;
  std::uint64_t bytes_per_second = 0;
  std::string message;  // One sentence once it ended.
};

struct KeyInfo {
  keyring::CmkRecord record;
  std::uint32_t volume_count = 0;
  std::vector<keyring::KeyTag> tags{};  // Ascending by name.
};

struct ProviderInfo {
  std::string name;   // "local"
  std::string kind;   // keyring::vault_maker_name(); "unknown" until it was up once.
  std::string state;  // "up", "down", "login-needed"
  std::string detail;
  std::optional<Error> last_error;
  std::chrono::microseconds latency{0};
  std::uint64_t failures = 0;
  std::vector<std::string> algorithms;  // Of which it makes keys; as it was last up.
  std::string token_kind;
  std::uint32_t priority = 0;
};

struct ManagerInfo {
  std::string version;
  std::vector<std::string> features;
  std::string host_id;
  std::string mode;  // "online", "degraded" (no provider up)
  std::uint32_t volume_count = 0;
  std::uint32_t unlocked_count = 0;
  std::uint32_t failed_count = 0;
  WallTime boot_finished{};  // Zero until every auto volume settled or failed.
  std::chrono::microseconds boot_unlock_duration{0};
};

struct AuditEntry {
  std::uint64_t sequence = 0;
  WallTime time;
  std::uint64_t boot_usec = 0;
  std::string event;   // "intent unlock", "result unlock", …
  std::string object;  // Volume UUID or key id, "" when none.
  std::string text;    // Actor, outcome and the rest, as one readable line.
};
struct AuditFilter {
  std::uint64_t from_sequence = 0;
  std::uint64_t to_sequence = 0;  // 0: the end.
  std::optional<WallTime> since;
  std::optional<WallTime> until;
  std::optional<Uuid> object;  // Of a volume or a key.
  std::optional<std::string> operation;
  std::optional<std::uint32_t> uid;
};
// The last record that is known to be durable. Sequence 0: there is none.
struct AuditHead {
  std::uint64_t sequence = 0;
  Bytes hash;
};
struct AuditVerdict {
  bool ok = false;
  std::uint64_t bad_sequence = 0;
  std::string text;
};

struct UnlockOptions {
  bool strict = false;  // kAlreadyUnlocked instead of success when it is open.
  bool read_only = false;
  bool dry_run = false;                  // All checks and the policy decision, no key, no mapping.
  std::chrono::microseconds timeout{0};  // 0: the configured default.
};
enum class LockMode : std::uint8_t { kPlain, kDeferred, kForce };
struct LockOptions {
  LockMode mode = LockMode::kPlain;
  std::chrono::microseconds timeout{0};
};
struct ProvisionOptions {
  std::string name{};               // "": from the device.
  std::vector<std::string> keys{};  // CMK ids or aliases, at most 8; none: "default".
  std::size_t threshold = 1;        // So many of the keys open the volume, together.
  std::string header_device{};      // "": the header on the device itself.
  std::string file_system{};        // "", "ext4", "xfs".
  std::string confirmation{};       // What a ForeignData refusal printed.
  bool automatic = true;
  bool dry_run = false;
};
struct RewrapOptions {
  std::uint32_t per_minute = 0;  // Volumes, at most; 0: the configured number.
};
inline constexpr std::uint32_t kRewrapsPerMinuteMax = 60'000;
struct AdoptOptions {
  std::string name{};
  std::string header_device{};
  bool automatic = true;
};

}  // namespace coffer::agent
