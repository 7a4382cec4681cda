// SPDX-License-Identifier: Apache-2.0
#include "hsm/revision_floors.h"

#include <algorithm>
#include <limits>
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
    kApplicationId, 2,
    "CREATE TABLE floor (cmk BLOB PRIMARY KEY CHECK (length(cmk) = 16), "
    "revision INTEGER NOT NULL, version INTEGER NOT NULL, "
    "digest BLOB NOT NULL CHECK (length(digest) = 32)) STRICT"};

struct Floor {
  KeyFloor at{};
  keyring::Digest digest{};  // Of the newest record.

  friend bool operator==(const Floor&, const Floor&) = default;
};

// The floor once `record` was presented, if it may be. Of two records of one revision the one
// presented first counts: the other was made and never stored, or is a copy that somebody kept.
Result<Floor> raised(const CmkId& cmk, const Floor& floor, const KeyFloor& record,
                     const keyring::Digest& digest) {
  const bool superseded = record.revision < floor.at.revision ||
                          (record.revision == floor.at.revision && digest != floor.digest);
  if (superseded) {
    return fail(Reason::kRecordSuperseded,
                "record of key " + cmk.str() + " has revision " + std::to_string(record.revision) +
                    ", but revision " + std::to_string(floor.at.revision) + " was already used");
  }
  return Floor{{record.revision, std::max(record.version, floor.at.version)}, digest};
}

class MemoryFloors final : public RevisionFloors {
 public:
  Result<void> present(const CmkId& cmk, const KeyFloor& record,
                       const keyring::Digest& digest) override {
    const std::lock_guard lock(mutex_);
    Floor& floor = floors_[cmk];
    const auto higher = raised(cmk, floor, record, digest);
    if (!higher) return tl::unexpected(higher.error());
    floor = *higher;
    return {};
  }

  Result<KeyFloor> floor_of(const CmkId& cmk) override {
    const std::lock_guard lock(mutex_);
    const auto found = floors_.find(cmk);
    return found == floors_.end() ? KeyFloor{} : found->second.at;
  }

 private:
  std::mutex mutex_;  // Guards floors_.
  std::map<CmkId, Floor> floors_;
};

class SqliteFloors final : public RevisionFloors {
 public:
  explicit SqliteFloors(SqliteDatabase database) : database_(std::move(database)) {}

  Result<void> present(const CmkId& cmk, const KeyFloor& record,
                       const keyring::Digest& digest) override {
    const std::lock_guard lock(mutex_);
    const auto floor = read(cmk);
    if (!floor) return tl::unexpected(floor.error());
    const auto higher = raised(cmk, *floor, record, digest);
    if (!higher) return tl::unexpected(higher.error());
    if (*higher == *floor) return {};
    auto statement =
        SqliteStatement::prepare(database_, "INSERT OR REPLACE INTO floor VALUES (?, ?, ?, ?)");
    if (!statement) return tl::unexpected(statement.error());
    auto written = statement->bind(cmk.bytes())
                       .bind(higher->at.revision)
                       .bind(std::uint64_t{higher->at.version})
                       .bind(digest)
                       .run();
    if (!written) return pass(written.error(), "raise the floor of key " + cmk.str());
    known_.insert_or_assign(cmk, *higher);
    return {};
  }

  Result<KeyFloor> floor_of(const CmkId& cmk) override {
    const std::lock_guard lock(mutex_);
    const auto floor = read(cmk);
    if (!floor) return tl::unexpected(floor.error());
    return floor->at;
  }

 private:
  Result<Floor> read(const CmkId& cmk) {
    if (const auto known = known_.find(cmk); known != known_.end()) return known->second;
    auto statement = SqliteStatement::prepare(
        database_, "SELECT revision, version, digest FROM floor WHERE cmk = ?");
    if (!statement) return tl::unexpected(statement.error());
    const auto row = statement->bind(cmk.bytes()).step();
    if (!row) return pass(row.error(), "read the floor of key " + cmk.str());
    Floor floor;
    if (*row) {
      const std::uint64_t version = statement->number(1);
      const ByteView digest = statement->bytes(2);
      if (digest.size() != floor.digest.size() ||
          version > std::numeric_limits<std::uint32_t>::max()) {
        return fail(Reason::kStoreDamaged, "the floor of key " + cmk.str() + " is malformed");
      }
      floor.at = {statement->number(0), static_cast<std::uint32_t>(version)};
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
