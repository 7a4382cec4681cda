// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "core/base/result.h"
#include "hsm/backup_manifest.h"
#include "hsm/host_setup.h"
#include "hsm/named_keys.h"

namespace coffer::hsm {

// A cold backup: a folder with what a host needs, beside its recovery shares, to open all its
// volumes with another token (docs/formats/backup.md). No key is in it that opens without them. Of
// an SDF device, which has no shares, it holds what the device has wrapped
// (docs/formats/sdf-keys.md) and opens on that device, or one with the same key encryption key.
//
// A record that is malformed, or under another root key than most, keeps no other from being
// copied: it is copied with them, and named. So are keys that no backup brings back, as they were
// made in their token and never left it.
//
// Made while everything runs. Floors are copied before the records that they hold for, and the
// registry before the keys that its volumes are wrapped under: what changes meanwhile is newer than
// what was copied before, never older, so that nothing restored from it is refused as superseded.
// Each file is copied as its owner, whose database root does not open.
//
// `folder` is not there yet; what is under way is in `folder`.partial, which an interrupted run
// leaves and the next one begins anew. As root, with one thread.
//   kInvalidArgs    `folder` is no name of a folder.
//   kNameTaken      `folder` is there, or `folder`.partial holds what no backup left.
//   kNoSuchFile     the host has no id: it was not set up.
//   kNoSuchKey      there are no keys to back up.
//   kRecordInvalid  no record is sound, or no root key is that of most.
//   kStoreUnavailable, kStoreDamaged, kIoError   nothing is left but the folders that were there.
struct Backup {
  BackupManifest manifest;
  NamedKeys damaged{};   // Their records will not open.
  NamedKeys resident{};  // Usable in the token that they were made in alone.
};
Result<Backup> make_backup(const HostPlaces& places, const std::string& folder,
                           const std::function<void(std::string_view step)>& after_step);

// Reads the manifest and compares every file with it.
//   kNoSuchFile     it is no backup, or a file is missing.
//   kConfigInvalid  the manifest is none.
//   kStoreDamaged   a file is not what was backed up; names it.
Result<BackupManifest> check_backup(const std::string& folder);

// Copies one file of the checked backup in `folder` to `path`, which is not there yet, durably,
// with mode 0600.   kStoreDamaged: it is not what `file` says.
Result<void> take_from_backup(const std::string& folder, const BackupManifest::File& file,
                              const std::string& path);

}  // namespace coffer::hsm
