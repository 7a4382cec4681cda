// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <utility>

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
  };

  // The next call fails, whichever it is.
  void fail_next(Reason reason = Reason::kStoreUnavailable) {
    const std::lock_guard lock(mutex_);
    failure_ = reason;
  }
  // The next put() fails; with `done_all_the_same` it happens nevertheless.
  void fail_next_put(Reason reason, bool done_all_the_same = false) {
    const std::lock_guard lock(mutex_);
    put_failure_ = reason;
    put_happens_ = done_all_the_same;
  }
  // The next put() happens, reports an error, and nothing can be read for a call after it.
  void lose_next_put(Reason reason = Reason::kStoreUnavailable) {
    fail_next_put(reason, true);
    const std::lock_guard lock(mutex_);
    after_put_ = reason;
  }
  // Called in put() before anything is looked at, without a lock: for races.
  void before_put(std::function<void()> hook) { before_put_ = std::move(hook); }

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
    rows_.insert_or_assign(record->id, Row{sealed, record->alias, record->revision, intent});
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

  Result<std::vector<keyring::StoredRecord>> list(const std::optional<CmkId>& after,
                                                  std::size_t count_max) override {
    const std::lock_guard lock(mutex_);
    if (auto failed = next_failure(); !failed) return tl::unexpected(failed.error());
    std::vector<keyring::StoredRecord> records;
    for (auto row = after ? rows_.upper_bound(*after) : rows_.begin();
         row != rows_.end() && records.size() < count_max; ++row) {
      records.push_back({row->first, row->second.record});
    }
    return records;
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
};

}  // namespace coffer::tests
