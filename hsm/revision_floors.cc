// SPDX-License-Identifier: Apache-2.0
#include "hsm/revision_floors.h"

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "core/base/bytes.h"
#include "core/base/sqlite.h"

namespace coffer::hsm {
namespace {

// "CofF": tells this file from Coffer's other stores.
constexpr std::int32_t kApplicationId = 0x436F6646;
constexpr SqliteDatabase::Kind kKind{
    kApplicationId, 3,
    "CREATE TABLE floor (cmk BLOB PRIMARY KEY CHECK (length(cmk) = 16), "
    "revision INTEGER NOT NULL, version INTEGER NOT NULL, first INTEGER NOT NULL, "
    "destroyed INTEGER NOT NULL, gone BLOB NOT NULL, "
    "digest BLOB NOT NULL CHECK (length(digest) = 32)) STRICT"};

struct Floor {
  KeyFloor at{};
  keyring::Digest digest{};  // Of the newest record.
};

// The floor once `record` was presented, if it may be. Of two records of one revision the one
// presented first counts: the other was made and never stored, or is a copy that somebody kept.
Result<Floor> raised(const Floor& floor, const keyring::CmkRecord& record,
                     const keyring::Digest& digest) {
  const bool superseded = record.revision < floor.at.revision ||
                          (record.revision == floor.at.revision && digest != floor.digest);
  if (superseded) {
    return fail(Reason::kRecordSuperseded, "record of key " + record.id.str() + " has revision " +
                                               std::to_string(record.revision) + ", but revision " +
                                               std::to_string(floor.at.revision) +
                                               " was already used");
  }
  Floor higher{floor.at, digest};
  KeyFloor& at = higher.at;
  at.revision = record.revision;
  at.version = std::max(at.version, record.versions.back().number);
  at.first = std::max(at.first, record.versions.front().number);
  at.destroyed = at.destroyed || record.state == keyring::KeyState::kDestroyed;
  // Imported material that was dropped may be brought again; what is destroyed stays so, as no
  // newer record has it.
  std::set<std::uint32_t> gone(at.gone.begin(), at.gone.end());
  for (const auto& version : record.versions) {
    if (version.material.empty()) {
      gone.insert(version.number);
    } else {
      gone.erase(version.number);
    }
  }
  at.gone.assign(gone.lower_bound(at.first), gone.end());
  return higher;
}

Bytes encode_gone(const std::vector<std::uint32_t>& gone) {
  ByteWriter out;
  for (const std::uint32_t number : gone) out.u32(number);
  return out.take();
}

std::optional<std::vector<std::uint32_t>> decode_gone(ByteView bytes) {
  if (bytes.size() % sizeof(std::uint32_t) != 0) return std::nullopt;
  ByteReader in(bytes);
  std::vector<std::uint32_t> gone(bytes.size() / sizeof(std::uint32_t));
  for (auto& number : gone) number = in.u32();
  return gone;
}

class MemoryFloors final : public RevisionFloors {
 public:
  Result<void> present(const keyring::CmkRecord& record, const keyring::Digest& digest) override {
    const std::lock_guard lock(mutex_);
    Floor& floor = floors_[record.id];
    const auto higher = raised(floor, record, digest);
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

  Result<void> present(const keyring::CmkRecord& record, const keyring::Digest& digest) override {
    const CmkId& cmk = record.id;
    const std::lock_guard lock(mutex_);
    const auto floor = read(cmk);
    if (!floor) return tl::unexpected(floor.error());
    // Of every use of a key.
    if (record.revision == floor->at.revision && digest == floor->digest) return {};
    const auto higher = raised(*floor, record, digest);
    if (!higher) return tl::unexpected(higher.error());
    auto statement = SqliteStatement::prepare(
        database_,
        "INSERT OR REPLACE INTO floor (cmk, revision, version, first, destroyed, gone, digest) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)");
    if (!statement) return tl::unexpected(statement.error());
    const KeyFloor& at = higher->at;
    statement->bind(cmk.bytes()).bind(at.revision).bind(std::uint64_t{at.version});
    statement->bind(std::uint64_t{at.first}).bind(std::uint64_t{at.destroyed ? 1U : 0U});
    auto written = statement->bind(encode_gone(at.gone)).bind(digest).run();
    if (!written) return pass(written.error(), "raise the floor of key " + cmk.str());
    know(cmk, *higher);
    return {};
  }

  Result<KeyFloor> floor_of(const CmkId& cmk) override {
    const std::lock_guard lock(mutex_);
    const auto floor = read(cmk);
    if (!floor) return tl::unexpected(floor.error());
    return floor->at;
  }

 private:
  // What is forgotten is read again.
  void know(const CmkId& cmk, const Floor& floor) {
    constexpr std::size_t kKnownMax = 65'536;
    if (known_.size() >= kKnownMax && !known_.contains(cmk)) known_.clear();
    known_.insert_or_assign(cmk, floor);
  }
  Result<Floor> read(const CmkId& cmk) {
    if (const auto known = known_.find(cmk); known != known_.end()) return known->second;
    auto statement = SqliteStatement::prepare(
        database_,
        "SELECT revision, version, first, destroyed, gone, digest FROM floor WHERE cmk = ?");
    if (!statement) return tl::unexpected(statement.error());
    const auto row = statement->bind(cmk.bytes()).step();
    if (!row) return pass(row.error(), "read the floor of key " + cmk.str());
    Floor floor;
    if (*row) {
      constexpr std::uint64_t kVersionMax = std::numeric_limits<std::uint32_t>::max();
      const std::uint64_t version = statement->number(1);
      const std::uint64_t first = statement->number(2);
      auto gone = decode_gone(statement->bytes(4));
      const ByteView digest = statement->bytes(5);
      if (digest.size() != floor.digest.size() || version > kVersionMax || first > kVersionMax ||
          !gone) {
        return fail(Reason::kStoreDamaged, "the floor of key " + cmk.str() + " is malformed");
      }
      floor.at = {statement->number(0), static_cast<std::uint32_t>(version),
                  static_cast<std::uint32_t>(first), statement->number(3) != 0, std::move(*gone)};
      std::ranges::copy(digest, floor.digest.begin());
    }
    know(cmk, floor);
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

Result<bool> floors_cover(RevisionFloors& floors, const std::string& older) {
  auto database = SqliteDatabase::open(older, kKind);
  if (!database) return pass(database.error(), "revision floors");
  auto statement = SqliteStatement::prepare(*database, "SELECT cmk, revision, version FROM floor");
  if (!statement) return tl::unexpected(statement.error());
  for (;;) {
    const auto row = statement->step();
    if (!row) return pass(row.error(), "read the floors of keys");
    if (!*row) return true;
    const auto id = CmkId::from_bytes(statement->bytes(0));
    if (!id) return fail(Reason::kStoreDamaged, "a floor is of no key");
    const auto floor = floors.floor_of(*id);
    if (!floor) return tl::unexpected(floor.error());
    if (floor->revision < statement->number(1) || floor->version < statement->number(2))
      return false;
  }
}

}  // namespace coffer::hsm
