// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/clock.h"
#include "core/base/id.h"
#include "core/base/result.h"
#include "core/crypto/digest.h"

namespace coffer::hsm {

// What a cold backup of a host holds, as the file `manifest` of its folder says. Format:
// docs/formats/backup.md. It finds damage, and what was mixed up; whoever can write the folder can
// write the manifest too: records are protected by their seals, not by it.
struct BackupManifest {
  struct File {
    std::string name;  // One of kFloors, kRegistry, kKeys, kSdfKeys.
    std::uint64_t size_bytes = 0;
    crypto::Sha256Digest digest{};

    friend bool operator==(const File&, const File&) = default;
  };
  static constexpr std::string_view kFloors = "floors.db";
  static constexpr std::string_view kRegistry = "registry.db";
  static constexpr std::string_view kKeys = "keyring.db";
  static constexpr std::string_view kSdfKeys = "sdf-keys";
  static constexpr std::size_t kTextBytesMax = 4096;

  HostId host;
  std::string root_id;  // Of the one root key under which all its keys are.
  WallTime made{};      // Whole seconds.
  std::uint64_t keys = 0;
  // In the order of their names; kKeys is always there.
  std::vector<File> files{};

  // Whether the root key is an SDF device's (SdfTokenKeys::root_id()): kSdfKeys is needed then.
  bool is_of_device() const noexcept { return root_id.starts_with("sdf-"); }
  // Null: the backup has no such file.
  const File* find(std::string_view name) const noexcept;

  std::string to_text() const;
  // kConfigInvalid: not exactly what to_text() writes; the message names the line.
  static Result<BackupManifest> parse(std::string_view text);

  friend bool operator==(const BackupManifest&, const BackupManifest&) = default;
};

}  // namespace coffer::hsm
