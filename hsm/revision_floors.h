// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/id.h"
#include "core/base/result.h"
#include "core/keyring/cmk_record.h"
#include "core/keyring/key_context.h"

namespace coffer::hsm {

// What was presented of a key: the newest revision, the highest number of a version, and what is
// gone for good, so that no older copy brings it back.
struct KeyFloor {
  std::uint64_t revision = 0;         // 0: nothing was.
  std::uint32_t version = 0;          // The highest one.
  std::uint32_t first = 0;            // The versions before it were destroyed and left out.
  bool destroyed = false;             // The key as a whole.
  std::vector<std::uint32_t> gone{};  // Versions from `first` on without material, ascending.

  friend bool operator==(const KeyFloor&, const KeyFloor&) = default;
};

// RevisionFloors remembers, per CMK, the newest record that was presented for use, so that a store
// that is put back to an older state, or a caller that kept an older record, is refused. A record
// counts when it is presented, not when it is made: a commit that fails locks nobody out. The
// highest version stays when an older record is taken back (adopted): no number is given twice.
//
// Thread-safe.
class RevisionFloors {
 public:
  virtual ~RevisionFloors() = default;

  // Raises the floor of a record's key to its revision and versions. Durable when it returns, where
  // the maker is.
  //   kRecordSuperseded   a newer revision was presented, or this one with another digest.
  //   kStoreUnavailable   a higher floor cannot be written now; the one before still holds.
  virtual Result<void> present(const keyring::CmkRecord& record, const keyring::Digest& digest) = 0;

  virtual Result<KeyFloor> floor_of(const CmkId& cmk) = 0;
};

// Forgets with the process.
std::unique_ptr<RevisionFloors> make_memory_floors();

// In the SQLite file `path` (WAL, synchronous=FULL), made with mode 0600 if absent.
//   kStoreUnavailable, kStoreDamaged
Result<std::unique_ptr<RevisionFloors>> open_sqlite_floors(const std::string& path);

// Whether `floors` refuse all that those in the file `older` would: they are these, or came to be
// out of them. `older` is there.   kStoreUnavailable, kStoreDamaged
Result<bool> floors_cover(RevisionFloors& floors, const std::string& older);

}  // namespace coffer::hsm
