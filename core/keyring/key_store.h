// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/keyring/cmk_record.h"

namespace coffer::keyring {

// What the store holds under an id. Whether the record is that key's is for the reader to check.
struct StoredRecord {
  CmkId id;
  SealedRecord record;
};

// A key for which something is due, and when it was.
struct DueKey {
  WallTime due{};
  CmkId id;

  friend auto operator<=>(const DueKey&, const DueKey&) = default;
};

// A name and a value that a caller hangs on a key to find it by. They say nothing to Coffer, and so
// stand beside the sealed record, not in it.
struct KeyTag {
  std::string name;   // 1 to 127 bytes of UTF-8; one of a name per key.
  std::string value;  // At most 255 bytes of UTF-8.

  friend auto operator<=>(const KeyTag&, const KeyTag&) = default;
};
inline constexpr std::size_t kTagsMax = 50;  // Per key.
// kInvalidArgs: names the tag that is outside its limits or given twice; kLimitsExceeded: too many.
Result<void> require_tags(const std::vector<KeyTag>& tags);

// What uses a key, as whoever binds it names it: "volume:3f2b8c1e-…". 1 to 128 printable ASCII
// characters.
inline constexpr std::size_t kResourceBytesMax = 128;
inline constexpr std::size_t kBindingsMax = 65'536;  // Per key.
// kInvalidArgs
Result<void> require_resource(std::string_view resource);

inline constexpr std::size_t kSearchBytesMax = 64;

// Which keys are meant: those that match everything that is set. Destroyed ones never do.
struct KeyFilter {
  std::optional<KeyState> state{};
  std::optional<KeyOwner> owner{};
  std::optional<KeyOrigin> origin{};
  std::optional<KeyUsage> usage{};
  std::optional<KeyAlgorithm> algorithm{};
  std::string search{};        // A part of alias or id; at most kSearchBytesMax of UTF-8.
  std::vector<KeyTag> tags{};  // Of each name one of its values; at most kTagsMax.
};
// kInvalidArgs: a text or tag is outside its limits; kLimitsExceeded: too many tags.
Result<void> require_filter(const KeyFilter& filter);

enum class KeyOrder : std::uint8_t { kById, kOldestFirst, kNewestFirst };

// One page. Pages follow each other by `after`, the last key of the one before, in every order:
// keys that come or go in between neither repeat nor hide others. In the orders by age nothing is
// behind a key that the store never had. `offset` skips so many, damaged ones too.
struct KeyQuery {
  KeyFilter filter{};
  KeyOrder order = KeyOrder::kById;
  std::optional<CmkId> after{};
  std::uint64_t offset = 0;
  std::size_t count_max = 100;
};

// KeyStore keeps sealed records. It is trusted with availability alone: what it returns is checked
// by the vault. Thread-safe; every call may block on the disk.
//   kStoreUnavailable   cannot be read or written now; nothing changed.
//   kStoreDamaged       holds what put() never wrote.
// Changes keep `intent`, the audit sequence under which they were made, in the same transaction.
class KeyStore {
 public:
  virtual ~KeyStore() = default;

  // Replaces the record of the same id in one durable transaction. `expected_revision` is the
  // revision it replaces, 0 for a new one. Of a destroyed key the alias is free again, and its tags
  // and bindings are gone. kNameTaken: another key has the alias. kInProgress: the stored revision
  // is another one.
  virtual Result<void> put(const SealedRecord& record, std::uint64_t expected_revision,
                           std::uint64_t intent) = 0;

  virtual Result<SealedRecord> get(const CmkId& id) = 0;                  // kNoSuchKey
  virtual Result<SealedRecord> get_by_alias(std::string_view alias) = 0;  // kNoSuchKey

  virtual Result<std::vector<StoredRecord>> list(const KeyQuery& query) = 0;
  virtual Result<std::uint64_t> count(const KeyFilter& filter) = 0;

  // Up to `count_max` keys for which something is due by `now` (due_of()), or whose rotation was
  // planned by a clock that was ahead of `planned_max`; behind `after`, in order of time and id.
  virtual Result<std::vector<DueKey>> due(WallTime now, WallTime planned_max,
                                          const std::optional<DueKey>& after,
                                          std::size_t count_max) = 0;
  // When the next thing is due of all after `now`; none when nothing is.
  virtual Result<std::optional<WallTime>> next_due(WallTime now) = 0;

  // Up to `count_max` records that the vault was perhaps not shown: all that put() wrote, until
  // set_presented() says so of that revision. Destroyed ones too.
  virtual Result<std::vector<StoredRecord>> unpresented(std::size_t count_max) = 0;
  virtual Result<void> set_presented(const CmkId& id, std::uint64_t revision) = 0;

  // Up to `count_max` records behind `after`, in the order of their ids. Destroyed ones too.
  virtual Result<std::vector<StoredRecord>> everything(const std::optional<CmkId>& after,
                                                       std::size_t count_max) = 0;

  // Replaces all tags of a key. kNoSuchKey
  virtual Result<void> set_tags(const CmkId& id, const std::vector<KeyTag>& tags,
                                std::uint64_t intent) = 0;
  virtual Result<std::vector<KeyTag>> tags(const CmkId& id) = 0;  // Ascending by name.

  // Whether the resource uses the key. What is so already stays so.
  //   kNoSuchKey
  //   kLimitsExceeded   kBindingsMax resources use it.
  virtual Result<void> set_bound(const CmkId& id, std::string_view resource, bool bound,
                                 std::uint64_t intent) = 0;
  // Up to `count_max` resources behind `after`, ascending.
  virtual Result<std::vector<std::string>> bindings(const CmkId& id, std::string_view after,
                                                    std::size_t count_max) = 0;
  virtual Result<std::uint64_t> count_bindings(const CmkId& id) = 0;
  // The keys with a resource whose name starts with `prefix`, ascending.
  virtual Result<std::vector<CmkId>> bound_keys(std::string_view prefix) = 0;

  // The audit intent under which the key was last changed: start-up reconciles with it.
  virtual Result<std::uint64_t> intent_of(const CmkId& id) = 0;  // kNoSuchKey

  // The audit sequence up to which every intent is known to have its result; 0 at first. Start-up
  // looks for open intents behind it.
  virtual Result<std::uint64_t> reconciled_to() = 0;
  virtual Result<void> set_reconciled_to(std::uint64_t sequence) = 0;
};

// The maker over SQLite (WAL, synchronous=FULL) in the file `path`, made with mode 0600 if absent.
Result<std::unique_ptr<KeyStore>> open_sqlite_key_store(const std::string& path);

}  // namespace coffer::keyring
