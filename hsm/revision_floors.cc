// SPDX-License-Identifier: Apache-2.0
#include "hsm/revision_floors.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "core/base/sqlite.h"

namespace coffer::hsm {
namespace {

// "CofF": tells this file from Coffer's other stores.
constexpr std::int32_t kApplicationId = 0x436F6646;
constexpr SqliteDatabase::Kind kKind{
    kApplicationId, 1,
    "CREATE TABLE floor (cmk BLOB PRIMARY KEY CHECK (length(cmk) = 16), "
    "revision INTEGER NOT NULL, digest BLOB NOT NULL CHECK (length(digest) = 32)) STRICT"};

struct Floor {
  std::uint64_t revision = 0;
  keyring::Digest digest{};

  friend bool operator==(const Floor&, const Floor&) = default;
};

// Whether `presented` may be used above `floor`. Of two records of one revision the one presented
// first counts: the other was made and never stored, or is a copy that somebody kept.
Result<void> require_not_superseded(const CmkId& cmk, const Floor& floor, const Floor& presented) {
  const bool superseded =
      presented.revision < floor.revision ||
      (presented.revision == floor.revision && presented.digest != floor.digest);
  if (!superseded) return {};
  return fail(Reason::kRecordSuperseded,
              "record of key " + cmk.str() + " has revision " + std::to_string(presented.revision) +
                  ", but revision " + std::to_string(floor.revision) + " was already used");
}

class MemoryFloors final : public RevisionFloors {
 public:
  Result<void> present(const CmkId& cmk, std::uint64_t revision,
                       const keyring::Digest& digest) override {
    const std::lock_guard lock(mutex_);
    const Floor presented{revision, digest};
    Floor& floor = floors_[cmk];
    if (auto fresh = require_not_superseded(cmk, floor, presented); !fresh) return fresh;
    floor = presented;
    return {};
  }

  Result<std::uint64_t> floor_of(const CmkId& cmk) override {
    const std::lock_guard lock(mutex_);
    const auto found = floors_.find(cmk);
    return found == floors_.end() ? 0 : found->second.revision;
  }

 private:
  std::mutex mutex_;  // Guards floors_.
  std::map<CmkId, Floor> floors_;
};

class SqliteFloors final : public RevisionFloors {
 public:
  explicit SqliteFloors(SqliteDatabase database) : database_(std::move(database)) {}

  Result<void> present(const CmkId& cmk, std::uint64_t revision,
                       const keyring::Digest& digest) override {
    const std::lock_guard lock(mutex_);
    const auto floor = read(cmk);
    if (!floor) return tl::unexpected(floor.error());
    const Floor presented{revision, digest};
    if (auto fresh = require_not_superseded(cmk, *floor, presented); !fresh) return fresh;
    if (presented == *floor) return {};
    auto statement =
        SqliteStatement::prepare(database_, "INSERT OR REPLACE INTO floor VALUES (?, ?, ?)");
    if (!statement) return tl::unexpected(statement.error());
    auto written = statement->bind(cmk.bytes()).bind(revision).bind(digest).run();
    if (!written) return pass(written.error(), "raise the floor of key " + cmk.str());
    known_.insert_or_assign(cmk, presented);
    return {};
  }

  Result<std::uint64_t> floor_of(const CmkId& cmk) override {
    const std::lock_guard lock(mutex_);
    const auto floor = read(cmk);
    if (!floor) return tl::unexpected(floor.error());
    return floor->revision;
  }

 private:
  Result<Floor> read(const CmkId& cmk) {
    if (const auto known = known_.find(cmk); known != known_.end()) return known->second;
    auto statement =
        SqliteStatement::prepare(database_, "SELECT revision, digest FROM floor WHERE cmk = ?");
    if (!statement) return tl::unexpected(statement.error());
    const auto row = statement->bind(cmk.bytes()).step();
    if (!row) return pass(row.error(), "read the floor of key " + cmk.str());
    Floor floor;
    if (*row) {
      floor.revision = statement->number(0);
      const ByteView digest = statement->bytes(1);
      if (digest.size() != floor.digest.size()) {
        return fail(Reason::kStoreDamaged, "the floor of key " + cmk.str() + " is malformed");
      }
      std::ranges::copy(digest, floor.digest.begin());
    }
    known_.insert_or_assign(cmk, floor);
    return floor;
  }

  std::mutex mutex_;  // Guards both.
  SqliteDatabase database_;
  std::map<CmkId, Floor> known_;  // What the file says, so that an unlock reads it once.
};

}  // namespace

std::unique_ptr<RevisionFloors> make_memory_floors() {
  return std::make_unique<MemoryFloors>();
}

Result<std::unique_ptr<RevisionFloors>> open_sqlite_floors(const std::string& path) {
  auto database = SqliteDatabase::open(path, kKind);
  if (!database) return pass(database.error(), "revision floors");
  return std::make_unique<SqliteFloors>(std::move(*database));
}

}  // namespace coffer::hsm
