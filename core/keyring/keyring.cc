// SPDX-License-Identifier: Apache-2.0
// Transitions, and reading the store.
#include "core/keyring/keyring.h"

#include <algorithm>
#include <utility>

#include "core/keyring/key_states.h"
#include "core/keyring/keyring_core.h"

namespace coffer::keyring {
namespace {

constexpr std::size_t kListCountMax = 1000;

// Whether the record says what its row in the store was found by.
bool matches(const KeyFilter& filter, const CmkRecord& record) {
  return record.state != KeyState::kDestroyed && (!filter.state || *filter.state == record.state) &&
         (!filter.owner || *filter.owner == record.owner) &&
         (!filter.origin || *filter.origin == record.origin) &&
         (!filter.usage || *filter.usage == record.usage) &&
         (!filter.algorithm || *filter.algorithm == record.algorithm);
}

// What no caller asks for: it follows from the clock, from use or from a volume's token.
bool is_our_own(const CmkChange& change) {
  return change.kind == CmkChange::kAdopt || change.kind == CmkChange::kLease ||
         change.kind == CmkChange::kDestroy || change.kind == CmkChange::kExpireMaterial;
}

std::string text_of(const std::vector<KeyTag>& tags) {
  std::string text;
  for (const auto& tag : tags) text += (text.empty() ? "" : ", ") + tag.name + "=" + tag.value;
  return text.empty() ? "no tags" : text;
}

}  // namespace

Keyring::Keyring(const Parts& parts) : core_(std::make_unique<Core>(parts)) {}
Keyring::~Keyring() = default;

void Keyring::set_observer(Observer observer) {
  core_->transitions.set_observer(std::move(observer));
}

Result<std::size_t> Keyring::reconcile() {
  return core_->transitions.reconcile();
}

Result<CmkRecord> Keyring::create(const CmkParameters& parameters, const audit::Actor& actor) {
  auto created = core_->transitions.create(parameters, actor);
  if (created) core_->note_new_version(*created);
  return created;
}
Result<CmkRecord> Keyring::enable(const CmkId& id, const audit::Actor& actor) {
  return core_->transitions.change(id, CmkChange::kEnable, actor);
}
Result<CmkRecord> Keyring::disable(const CmkId& id, const audit::Actor& actor,
                                   WhenBound when_bound) {
  return core_->transitions.change(id, CmkChange::kDisable, actor, when_bound);
}
Result<CmkRecord> Keyring::archive(const CmkId& id, const audit::Actor& actor,
                                   WhenBound when_bound) {
  return core_->transitions.change(id, CmkChange::kArchive, actor, when_bound);
}
Result<CmkRecord> Keyring::cancel_archive(const CmkId& id, const audit::Actor& actor) {
  return core_->transitions.change(id, CmkChange::kCancelArchive, actor);
}
Result<CmkRecord> Keyring::schedule_deletion(const CmkId& id, std::uint32_t days,
                                             const audit::Actor& actor, WhenBound when_bound) {
  CmkChange change = CmkChange::kScheduleDeletion;
  change.days = days;
  return core_->transitions.change(id, change, actor, when_bound);
}
Result<CmkRecord> Keyring::cancel_deletion(const CmkId& id, const audit::Actor& actor) {
  return core_->transitions.change(id, CmkChange::kCancelDeletion, actor);
}
Result<CmkRecord> Keyring::rotate(const CmkId& id, const audit::Actor& actor) {
  auto rotated = core_->transitions.change(id, CmkChange::kRotate, actor);
  if (rotated) core_->note_new_version(*rotated);
  return rotated;
}

Result<CmkRecord> Keyring::set_rotation(const CmkId& id, std::uint32_t days,
                                        const audit::Actor& actor) {
  CmkChange change = CmkChange::kSetRotation;
  change.days = days;
  return core_->transitions.change(id, change, actor);
}
Result<CmkRecord> Keyring::describe(const CmkId& id, std::string_view alias,
                                    std::string_view description, const audit::Actor& actor) {
  CmkChange change = CmkChange::kDescribe;
  change.alias = std::string(alias);
  change.description = std::string(description);
  return core_->transitions.change(id, change, actor);
}
Result<CmkRecord> Keyring::destroy_version(const CmkId& id, std::uint32_t version,
                                           const audit::Actor& actor, WhenBound when_bound) {
  CmkChange change = CmkChange::kDestroyVersion;
  change.version = version;
  return core_->transitions.change(id, change, actor, when_bound);
}

Result<ImportParameters> Keyring::prepare_import(const CmkId& id, ImportWrapping wrapping,
                                                 const audit::Actor& actor) {
  Result<ImportParameters> prepared = fail(Reason::kInternal, "not prepared");
  const auto make = [&](ByteView current) -> Result<SealedRecord> {
    prepared = core_->parts.vault.prepare_import(current, wrapping);
    if (!prepared) return tl::unexpected(prepared.error());
    return prepared->record;
  };
  const auto changed = core_->transitions.change_by(id, "key.prepare-import", make, actor);
  if (!changed) return tl::unexpected(changed.error());
  return prepared;
}
Result<CmkRecord> Keyring::import_material(const CmkId& id, const ImportMaterial& material,
                                           const audit::Actor& actor) {
  const auto make = [&](ByteView current) -> Result<SealedRecord> {
    if (material.valid_to) {
      // A bound key's would end under what uses it.
      auto free = core_->transitions.require_unbound(id, "import material that expires");
      if (!free) return tl::unexpected(free.error());
    }
    return core_->parts.vault.import_material(current, material);
  };
  // The version is not a new one: what it has leased may be used, by a process before this one.
  return core_->transitions.change_by(id, "key.import", make, actor);
}
Result<CmkRecord> Keyring::delete_material(const CmkId& id, const audit::Actor& actor,
                                           WhenBound when_bound) {
  return core_->transitions.change(id, CmkChange::kDeleteMaterial, actor, when_bound);
}

std::vector<Result<CmkRecord>> Keyring::change_many(std::span<const CmkId> ids,
                                                    const CmkChange& change,
                                                    const audit::Actor& actor,
                                                    WhenBound when_bound) {
  if (is_our_own(change)) {
    return all_fail<CmkRecord>(
        ids.size(), Error(Reason::kInvalidArgs, change_operation(change) + " is not asked for"));
  }
  std::vector<Result<CmkRecord>> results;
  results.reserve(ids.size());
  for (const auto& id : ids) {
    results.push_back(core_->transitions.change(id, change, actor, when_bound));
    const auto& last = results.back();
    if (last && change.kind == CmkChange::kRotate) core_->note_new_version(*last);
  }
  return results;
}

Result<DueReport> Keyring::run_due(const audit::Actor& actor) {
  auto report = core_->due.run(actor);
  if (!report) return report;
  for (Error& error : core_->unrotated()) report->failed.push_back(std::move(error));
  return report;
}

Result<void> Keyring::set_tags(const CmkId& id, const std::vector<KeyTag>& tags,
                               const audit::Actor& actor) {
  const std::string operation = "key.tag";
  if (auto good = require_tags(tags); !good) {
    return core_->transitions.refused(good.error(), operation, id, actor);
  }
  const auto store = [&](const CmkRecord& record, std::uint64_t intent) -> Result<void> {
    if (record.state == KeyState::kPendingDelete) {
      return fail(Reason::kKeyPendingDeletion, "key " + id.str() + " is to be deleted");
    }
    return core_->parts.store.set_tags(id, tags, intent);
  };
  return core_->transitions.change_beside(id, operation, text_of(tags), store, actor,
                                          KeyTransitions::Turn::kNow);
}
Result<std::vector<KeyTag>> Keyring::tags(const CmkId& id) const {
  if (auto there = get(id); !there) return tl::unexpected(there.error());
  return core_->parts.store.tags(id);
}

Result<void> Keyring::bind(const CmkId& id, std::string_view resource, const audit::Actor& actor) {
  const std::string operation = "key.bind";
  if (auto good = require_resource(resource); !good) {
    return core_->transitions.refused(good.error(), operation, id, actor);
  }
  bool expires = false;
  const auto store = [&](const CmkRecord& record, std::uint64_t intent) -> Result<void> {
    if (auto enabled = require_state(record, KeyState::kEnabled, "bind"); !enabled) return enabled;
    expires = record.material_valid_to.has_value();
    return core_->parts.store.set_bound(id, resource, true, intent);
  };
  auto bound = core_->transitions.change_beside(id, operation, std::string(resource), store, actor,
                                                KeyTransitions::Turn::kWait);
  if (!bound || !expires) return bound;
  // The material of a key that is in use does not expire. Not before it is in use: the time does
  // not come back. From now on it is given no other; when it comes first, run_due() drops it.
  const auto kept = core_->transitions.change(id, CmkChange::kSetValidTo, actor);
  if (kept) return {};
  return pass(kept.error(), "key " + id.str() + " is bound, and its material still expires");
}
Result<void> Keyring::unbind(const CmkId& id, std::string_view resource,
                             const audit::Actor& actor) {
  const std::string operation = "key.unbind";
  if (auto good = require_resource(resource); !good) {
    return core_->transitions.refused(good.error(), operation, id, actor);
  }
  const auto store = [&](const CmkRecord& /*record*/, std::uint64_t intent) {
    return core_->parts.store.set_bound(id, resource, false, intent);
  };
  return core_->transitions.change_beside(id, operation, std::string(resource), store, actor,
                                          KeyTransitions::Turn::kWait);
}
Result<std::vector<std::string>> Keyring::bindings(const CmkId& id, std::string_view after,
                                                   std::size_t count_max) const {
  if (auto there = get(id); !there) return tl::unexpected(there.error());
  return core_->parts.store.bindings(id, after,
                                     std::clamp<std::size_t>(count_max, 1, kListCountMax));
}

Result<std::vector<CmkId>> Keyring::bound_keys(std::string_view prefix) const {
  return core_->parts.store.bound_keys(prefix);
}

std::vector<Result<CmkRecord>> Keyring::adopt(std::span<const SealedRecord> records,
                                              const audit::Actor& actor) {
  std::vector<Result<CmkRecord>> results;
  for (const auto& record : records) results.push_back(core_->transitions.adopt(record, actor));
  return results;
}

Result<CmkRecord> Keyring::get(const CmkId& id) const {
  auto stored = read_record(core_->parts.store, id);
  if (!stored) return tl::unexpected(stored.error());
  return std::move(stored->record);
}

Result<CmkRecord> Keyring::find(std::string_view id_or_alias) const {
  // An alias may look like an id, so one that is no key's id is looked up as an alias too.
  if (const auto id = CmkId::parse(id_or_alias)) {
    auto found = get(*id);
    if (found || found.error().reason() != Reason::kNoSuchKey) return found;
  }
  auto stored = read_record_by_alias(core_->parts.store, id_or_alias);
  if (!stored) return tl::unexpected(stored.error());
  return std::move(stored->record);
}

Result<KeyPage> Keyring::list(const KeyQuery& query) const {
  if (auto good = require_filter(query.filter); !good) return tl::unexpected(good.error());
  KeyQuery asked = query;
  asked.count_max = std::clamp<std::size_t>(query.count_max, 1, kListCountMax);
  const auto rows = core_->parts.store.list(asked);
  if (!rows) return tl::unexpected(rows.error());
  KeyPage page;
  for (const auto& row : *rows) {
    auto record = record_of(row);
    if (!record) {
      page.damaged.push_back(record.error());
    } else if (!matches(query.filter, *record)) {
      page.damaged.emplace_back(Reason::kRecordInvalid, "key " + row.id.str() +
                                                            ": its record says otherwise than "
                                                            "what it is found by");
    } else {
      page.keys.push_back(std::move(*record));
    }
  }
  if (rows->size() < asked.count_max) return page;
  page.continue_after = rows->back().id;
  return page;
}

Result<std::uint64_t> Keyring::count(const KeyFilter& filter) const {
  if (auto good = require_filter(filter); !good) return tl::unexpected(good.error());
  return core_->parts.store.count(filter);
}

Result<SealedRecord> Keyring::sealed_record(const CmkId& id) const {
  auto stored = read_record(core_->parts.store, id);
  if (!stored) return tl::unexpected(stored.error());
  return std::move(stored->sealed);
}

std::vector<Result<SealedRecord>> Keyring::sealed_records(std::span<const CmkId> ids) const {
  std::vector<Result<SealedRecord>> records;
  for (const auto& id : ids) records.push_back(sealed_record(id));
  return records;
}

}  // namespace coffer::keyring
