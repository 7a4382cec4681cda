// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/id.h"
#include "core/base/result.h"
#include "core/keyring/key_context.h"

namespace coffer::hsm {

// RevisionFloors remembers, per CMK, the newest record that was presented for use, so that a store
// that is put back to an older state, or a caller that kept an older record, is refused. A record
// counts when it is presented, not when it is made: a commit that fails locks nobody out.
//
// Thread-safe.
class RevisionFloors {
 public:
  virtual ~RevisionFloors() = default;

  // Raises the floor of `cmk` to `revision`. Durable when it returns, where the maker is.
  //   kRecordSuperseded   a newer revision was presented, or this one with another digest.
  //   kStoreUnavailable   a higher floor cannot be written now; the one before still holds.
  virtual Result<void> present(const CmkId& cmk, std::uint64_t revision,
                               const keyring::Digest& digest) = 0;

  // The newest revision presented, 0 when none was.
  virtual Result<std::uint64_t> floor_of(const CmkId& cmk) = 0;
};

// Forgets with the process.
std::unique_ptr<RevisionFloors> make_memory_floors();

// In the SQLite file `path` (WAL, synchronous=FULL), made with mode 0600 if absent.
//   kStoreUnavailable, kStoreDamaged
Result<std::unique_ptr<RevisionFloors>> open_sqlite_floors(const std::string& path);

}  // namespace coffer::hsm
