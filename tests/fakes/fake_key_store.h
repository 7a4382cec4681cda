// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "core/keyring/key_states.h"
#include "core/keyring/key_store.h"

namespace coffer::tests {

// Keeps records in memory, by the rules of KeyStore, and fails or lies on demand.
class FakeKeyStore final : public keyring::KeyStore {
 public:
  struct Row {
    keyring::SealedRecord record;
    std::string alias;
    std::uint64_t revision = 0;
    std::uint64_t intent = 0;
    std::vector<keyring::KeyTag> tags{};
    std::set<std::string> bindings{};
    bool unpresented = false;
  };

  // The next call fails, whichever it is.
  void fail_next(Reason reason = Reason::kStoreUnavailable) {
    const std::lock_guard lock(mutex_);
    failure_ = reason;
  }
  // The next put(), or change of what stands beside a record, fails; with `done_all_the_same` it
  // happens nevertheless.
  void fail_next_put(Reason reason, bool done_all_the_same = false) {
    const std::lock_guard lock(mutex_);
    put_failure_ = reason;
    put_happens_ = done_all_the_same;
  }
  // The same happens, reports an error, and nothing can be read for a call after it.
  void lose_next_put(Reason reason = Reason::kStoreUnavailable) {
    fail_next_put(reason, true);
    const std::lock_guard lock(mutex_);
    after_put_ = reason;
  }
  // Called in put() before anything is looked at, without a lock: for races.
  void before_put(std::function<void()> hook) { before_put_ = std::move(hook); }

  // Called in the next tags() when they are read, without a lock: for races.
  void after_tags(std::function<void()> hook) {
    const std::lock_guard lock(mutex_);
    after_tags_ = std::move(hook);
  }

  // Straight access, past every check, as for somebody who edits the file.
  Row& row(const CmkId& id) { return rows_.at(id); }
  std::map<CmkId, Row>& rows() { return rows_; }

  Result<void> put(const keyring::SealedRecord& sealed, std::uint64_t expected_revision,
                   std::uint64_t intent) override {
    if (const auto hook = std::exchange(before_put_, nullptr)) hook();
    const std::lock_guard lock(mutex_);
    if (auto failed = next_failure(); !failed) return failed;
    const auto record = keyring::CmkRecord::decode(sealed);
    if (!record) return tl::unexpected(record.error());
    const auto found = rows_.find(record->id);
    if ((found == rows_.end() ? 0 : found->second.revision) != expected_revision) {
      return fail(Reason::kInProgress, "the fake store holds another revision");
    }
    for (const auto& [id, row] : rows_) {
      if (id != record->id && row.alias == record->alias) {
        return fail(Reason::kNameTaken, "the fake store has the alias");
      }
    }
    if (put_failure_ && !put_happens_) return fail(*std::exchange(put_failure_, {}), "put");
    Row& row = rows_[record->id];
    row.record = sealed;
    row.alias = record->alias;
    row.revision = record->revision;
    row.intent = intent;
    row.unpresented = true;
    if (record->state == keyring::KeyState::kDestroyed) {
      row.alias.clear();
      row.tags.clear();
      row.bindings.clear();
    }
    failure_ = std::exchange(after_put_, {});
    if (put_failure_) return fail(*std::exchange(put_failure_, {}), "put");
    return {};
  }

  Result<keyring::SealedRecord> get(const CmkId& id) override {
    const std::lock_guard lock(mutex_);
    if (auto failed = next_failure(); !failed) return tl::unexpected(failed.error());
    const auto found = rows_.find(id);
    if (found == rows_.end()) return fail(Reason::kNoSuchKey, "key " + id.str());
    return found->second.record;
  }

  Result<keyring::SealedRecord> get_by_alias(std::string_view alias) override {
    const std::lock_guard lock(mutex_);
    if (auto failed = next_failure(); !failed) return tl::unexpected(failed.error());
    for (const auto& [id, row] : rows_) {
      if (row.alias == alias) return row.record;
    }
    return fail(Reason::kNoSuchKey, "key '" + std::string(alias) + "'");
  }

  // By id alone; filters by all but tags.
  Result<std::vector<keyring::StoredRecord>> list(const keyring::KeyQuery& query) override {
    const std::lock_guard lock(mutex_);
    if (auto failed = next_failure(); !failed) return tl::unexpected(failed.error());
    std::vector<keyring::StoredRecord> records;
    for (auto row = query.after ? rows_.upper_bound(*query.after) : rows_.begin();
         row != rows_.end() && records.size() < query.count_max; ++row) {
      if (chosen(row->second, query.filter)) records.push_back({row->first, row->second.record});
    }
    return records;
  }
  Result<std::uint64_t> count(const keyring::KeyFilter& filter) override {
    const std::lock_guard lock(mutex_);
    if (auto failed = next_failure(); !failed) return tl::unexpected(failed.error());
    return static_cast<std::uint64_t>(
        std::ranges::count_if(rows_, [&](const auto& row) { return chosen(row.second, filter); }));
  }

  Result<std::vector<keyring::DueKey>> due(WallTime now, WallTime planned_max,
                                           const std::optional<keyring::DueKey>& after,
                                           std::size_t count_max) override {
    const std::lock_guard lock(mutex_);
    if (auto failed = next_failure(); !failed) return tl::unexpected(failed.error());
    std::vector<keyring::DueKey> keys;
    for (const auto& [id, row] : rows_) {
      const auto record = keyring::CmkRecord::decode(row.record);
      if (!record) continue;
      const auto due = keyring::due_of(*record);
      const auto planned = keyring::rotation_planned_at(*record);
      if (due && (*due <= now || (planned && *planned > planned_max))) keys.push_back({*due, id});
    }
    std::ranges::sort(keys);
    if (after) keys.erase(keys.begin(), std::ranges::upper_bound(keys, *after));
    if (keys.size() > count_max) keys.resize(count_max, keys.front());
    return keys;
  }
  Result<std::optional<WallTime>> next_due(WallTime now) override {
    const std::lock_guard lock(mutex_);
    if (auto failed = next_failure(); !failed) return tl::unexpected(failed.error());
    std::optional<WallTime> next;
    for (const auto& [id, row] : rows_) {
      const auto record = keyring::CmkRecord::decode(row.record);
      if (!record) continue;
      const auto due = keyring::due_of(*record);
      if (due && *due > now && (!next || *due < *next)) next = due;
    }
    return next;
  }

  Result<std::vector<keyring::StoredRecord>> unpresented(std::size_t count_max) override {
    const std::lock_guard lock(mutex_);
    std::vector<keyring::StoredRecord> records;
    for (const auto& [id, row] : rows_) {
      if (row.unpresented && records.size() < count_max) records.push_back({id, row.record});
    }
    return records;
  }
  Result<void> set_presented(const CmkId& id, std::uint64_t revision) override {
    const std::lock_guard lock(mutex_);
    const auto found = rows_.find(id);
    if (found != rows_.end() && found->second.revision == revision) {
      found->second.unpresented = false;
    }
    return {};
  }
  Result<std::vector<keyring::StoredRecord>> everything(const std::optional<CmkId>& after,
                                                        std::size_t count_max) override {
    const std::lock_guard lock(mutex_);
    if (auto failed = next_failure(); !failed) return tl::unexpected(failed.error());
    std::vector<keyring::StoredRecord> records;
    for (auto at = after ? rows_.upper_bound(*after) : rows_.begin();
         at != rows_.end() && records.size() < count_max; ++at) {
      records.push_back({at->first, at->second.record});
    }
    return records;
  }

  Result<void> set_tags(const CmkId& id, const std::vector<keyring::KeyTag>& tags,
                        std::uint64_t intent) override {
    return change(id, intent, [&](Row& row) {
      row.tags = tags;
      std::ranges::sort(row.tags);
    });
  }
  Result<std::vector<keyring::KeyTag>> tags(const CmkId& id) override {
    std::vector<keyring::KeyTag> found;
    std::function<void()> hook;
    {
      const std::lock_guard lock(mutex_);
      if (const auto row = rows_.find(id); row != rows_.end()) found = row->second.tags;
      hook = std::exchange(after_tags_, nullptr);
    }
    if (hook) hook();
    return found;
  }
  Result<void> set_bound(const CmkId& id, std::string_view resource, bool bound,
                         std::uint64_t intent) override {
    return change(id, intent, [&](Row& row) {
      if (bound) {
        row.bindings.emplace(resource);
      } else {
        row.bindings.erase(std::string(resource));
      }
    });
  }
  Result<std::vector<std::string>> bindings(const CmkId& id, std::string_view after,
                                            std::size_t count_max) override {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> resources;
    const auto found = rows_.find(id);
    if (found == rows_.end()) return resources;
    for (const auto& resource : found->second.bindings) {
      if (resource > after && resources.size() < count_max) resources.push_back(resource);
    }
    return resources;
  }
  Result<std::uint64_t> count_bindings(const CmkId& id) override {
    const std::lock_guard lock(mutex_);
    if (auto failed = next_failure(); !failed) return tl::unexpected(failed.error());
    const auto found = rows_.find(id);
    return found == rows_.end() ? 0 : found->second.bindings.size();
  }

  Result<std::vector<CmkId>> bound_keys(std::string_view prefix) override {
    const std::lock_guard lock(mutex_);
    if (auto failed = next_failure(); !failed) return tl::unexpected(failed.error());
    std::vector<CmkId> keys;
    for (const auto& [id, row] : rows_) {
      const auto first = row.bindings.lower_bound(std::string(prefix));
      if (first != row.bindings.end() && first->starts_with(prefix)) keys.push_back(id);
    }
    return keys;
  }

  Result<std::uint64_t> intent_of(const CmkId& id) override {
    const std::lock_guard lock(mutex_);
    if (auto failed = next_failure(); !failed) return tl::unexpected(failed.error());
    const auto found = rows_.find(id);
    if (found == rows_.end()) return fail(Reason::kNoSuchKey, "key " + id.str());
    return found->second.intent;
  }

  Result<std::uint64_t> reconciled_to() override {
    const std::lock_guard lock(mutex_);
    return reconciled_to_;
  }
  Result<void> set_reconciled_to(std::uint64_t sequence) override {
    const std::lock_guard lock(mutex_);
    reconciled_to_ = sequence;
    return {};
  }

 private:
  // What is damaged is found by every filter, so that it is seen.
  static bool chosen(const Row& row, const keyring::KeyFilter& filter) {
    const auto record = keyring::CmkRecord::decode(row.record);
    if (!record) return true;
    return record->state != keyring::KeyState::kDestroyed &&
           (!filter.state || *filter.state == record->state) &&
           (!filter.owner || *filter.owner == record->owner) &&
           (record->alias.find(filter.search) != std::string::npos ||
            record->id.str().find(filter.search) != std::string::npos);
  }
  template <class Change>
  Result<void> change(const CmkId& id, std::uint64_t intent, Change change) {
    const std::lock_guard lock(mutex_);
    if (auto failed = next_failure(); !failed) return failed;
    const auto found = rows_.find(id);
    if (found == rows_.end()) return fail(Reason::kNoSuchKey, "key " + id.str());
    if (put_failure_ && !put_happens_) return fail(*std::exchange(put_failure_, {}), "change");
    change(found->second);
    found->second.intent = intent;
    failure_ = std::exchange(after_put_, {});
    if (put_failure_) return fail(*std::exchange(put_failure_, {}), "change");
    return {};
  }
  Result<void> next_failure() {
    if (failure_) return fail(*std::exchange(failure_, {}), "the fake store was told to fail");
    return {};
  }

  std::mutex mutex_;  // Guards all but before_put_.
  std::map<CmkId, Row> rows_;
  std::uint64_t reconciled_to_ = 0;
  std::optional<Reason> failure_;
  std::optional<Reason> put_failure_;
  std::optional<Reason> after_put_;
  bool put_happens_ = false;
  std::function<void()> before_put_;
  std::function<void()> after_tags_;
};

}  // namespace coffer::tests
