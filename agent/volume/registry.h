// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/id.h"
#include "core/base/result.h"
#include "core/base/sqlite.h"
#include "core/keyring/key_context.h"

namespace coffer::agent {

// How far a volume has come. A row is written before the first byte of its device is.
enum class RowState : std::uint8_t { kProvisioning = 1, kReady = 2 };

// What tells one disk from another, across boots. `path` is the stable link that it was registered
// by, /dev/disk/by-id/… where there is one.
struct DiskIdentity {
  std::string path{};
  std::string serial{};
  std::string wwn{};

  friend bool operator==(const DiskIdentity&, const DiskIdentity&) = default;
};

// VolumeRow is all that this host remembers of a volume beside its device: nothing in it is secret.
// Format: docs/formats/registry.md.
struct VolumeRow {
  VolumeId id{Uuid()};
  std::string name{};  // 1 to 64 of [A-Za-z0-9_.-]; unique on the host.
  std::string mapped_name{};
  DiskIdentity device{};
  DiskIdentity header_device{};  // Empty path: the header is on the device.
  // Size of `device` when it was provisioned or adopted; never 0. Where the data end is not in the
  // header, so this alone tells that a device was cut short. A larger one is the same volume.
  std::uint64_t device_bytes = 0;
  RowState state = RowState::kProvisioning;
  Bytes profile{};  // luks2::encode_profile of the pinned profile.
  std::uint64_t generation = 1;
  std::uint64_t pending_generation = 0;  // generation + 1 while a change is open, else 0.
  Bytes context{};                       // keyring::KeyContext::encode.
  std::vector<Bytes> wraps{};            // keyring::WrappedKey::encode; none while provisioning.
  std::vector<CmkId> keys{};
  Bytes
      header_print{};  // HeaderPrint of the header as made, from before its first byte is written.
  bool automatic = true;
  bool locked_by_admin = false;
  std::string locked_boot_id{};  // The boot in which it was; another boot ends the lock.
  std::string file_system{};     // Asked for at provisioning: "", "ext4", "xfs".
  bool file_system_made = false;
  WallTime created{};
  WallTime last_unlock{};

  Bytes encode() const;
  // kStoreDamaged: not exactly what encode() makes of a row within the limits.
  static Result<VolumeRow> decode(ByteView bytes);

  friend bool operator==(const VolumeRow&, const VolumeRow&) = default;
};

// A rewrap of all volumes of a key that was asked for and has not ended. Which volumes are left is
// not kept: their headers say so.
struct OpenRewrap {
  CmkId key;
  std::uint32_t per_minute = 0;
  std::uint32_t uid = 0;  // Who asked.
  WallTime started{};     // Tells it from a later one of the same key.

  friend bool operator==(const OpenRewrap&, const OpenRewrap&) = default;
};

// kInvalidArgs: not a name for a volume (and so for /dev/mapper) as described above.
Result<void> require_volume_name(std::string_view name);

// Registry keeps the rows durably: SQLite, WAL, synchronous=FULL, so a row that put() stored is
// there after a power cut. It holds no policy: which row may become which is the callers' business.
//
// Thread-safe; every call may block on the disk, so none is made on the event loop.
//   kStoreUnavailable   cannot be read or written now; nothing changed.
//   kStoreDamaged       holds what put() never wrote, or is of a newer format version.
class Registry {
 public:
  static constexpr std::size_t kRowsMax = 10'000;

  // Opens the file `path`, made with mode 0600 if absent.
  static Result<std::unique_ptr<Registry>> open(const std::string& path);

  // All rows, in the order of their names. A row that cannot be read back is left out and counted:
  // the others stay usable.
  struct Contents {
    std::vector<VolumeRow> rows;
    std::vector<std::string> damaged;  // Ids of rows that were left out.
  };
  Result<Contents> load();
  Result<VolumeRow> find(const VolumeId& id);  // kNoSuchVolume

  // Stores `row` in place of the one with its id. kNameTaken: another row has its name or mapped
  // name. kLimitsExceeded: kRowsMax.
  Result<void> put(const VolumeRow& row);
  // Stores all or none, in one transaction.
  Result<void> put_all(const std::vector<VolumeRow>& rows);
  Result<void> erase(const VolumeId& id);  // Also when there is none.

  // The rewraps to go on with after a restart: one per key, the newest. Those that cannot be read
  // back are left out.
  Result<void> note_rewrap(const OpenRewrap& rewrap);
  Result<void> end_rewrap(const OpenRewrap& rewrap);  // Also when there is none.
  Result<std::vector<OpenRewrap>> open_rewraps();

  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

 private:
  explicit Registry(SqliteDatabase database) : database_(std::move(database)) {}
  Result<void> put_one(const VolumeRow& row);
  Result<void> require_room(const VolumeRow& row);

  std::mutex mutex_;  // Guards database_.
  SqliteDatabase database_;
};

}  // namespace coffer::agent
