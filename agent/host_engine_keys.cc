// SPDX-License-Identifier: Apache-2.0
// The life of keys: what callers change, what the clock does, and what the volumes bind.
#include <algorithm>
#include <iterator>
#include <utility>

#include "agent/host_engine.h"
#include "agent/host_engine_pool.h"
#include "agent/volume/bindings.h"
#include "core/keyring/key_transitions.h"

namespace coffer::agent {
namespace {

using keyring::CmkRecord;

// Of the steady clock: how a wall clock that was turned is noticed.
constexpr std::chrono::hours kDueEvery{1};
constexpr std::size_t kPage = 1000;
constexpr std::size_t kDamagedToldMax = 1000;

Caller self() {
  Caller caller;
  caller.origin = "daemon";
  return caller;
}

// What a volume fails with while its key, or too many of several, are not enabled.
bool is_of_state(Reason reason) {
  return reason == Reason::kKeyDisabled || reason == Reason::kKeyPendingImport ||
         reason == Reason::kKeyPendingDeletion || reason == Reason::kThresholdNotMet;
}

// One page of keys that are whole: those behind damaged ones fill it up.
Result<keyring::KeyPage> page_of(const keyring::Keyring& keyring, keyring::KeyQuery query) {
  const std::size_t count_max = std::clamp<std::size_t>(query.count_max, 1, kPage);
  keyring::KeyPage all;
  for (;;) {
    query.count_max = count_max - all.keys.size();
    auto page = keyring.list(query);
    if (!page) return page;
    std::ranges::move(page->keys, std::back_inserter(all.keys));
    for (Error& error : page->damaged) {
      if (all.damaged.size() < kDamagedToldMax) all.damaged.push_back(std::move(error));
    }
    all.continue_after = page->continue_after;
    if (!page->continue_after || all.keys.size() >= count_max) return all;
    query.after = page->continue_after;
    query.offset = 0;
  }
}

// A change that was made, and what beside volumes used the key that it took away; "": nothing.
struct Changed {
  CmkRecord record;
  std::string user;
};

bool takes_by_force(const KeyChange& change) {
  return change.force && keyring::takes_key_away(change.change);
}

std::string volumes_text(std::uint32_t count) {
  return std::to_string(count) + (count == 1 ? " volume" : " volumes");
}

// What a key that `count` volumes use is to them; `needing` of them do not open without it.
std::string opens_text(std::uint32_t count, std::uint32_t needing) {
  const std::string text = "opens " + volumes_text(count);
  if (needing == 0) return text + ", all of which other keys open as well";
  return needing == count ? text : text + ", " + std::to_string(needing) + " not without it";
}

}  // namespace

KeyInfo HostEngine::info_of(const CmkRecord& record) const {
  KeyInfo info{record, volumes_.count_using(record.id)};
  if (const auto tags = key_tags_.find(record.id); tags != key_tags_.end())
    info.tags = tags->second;
  return info;
}

std::vector<KeyInfo> HostEngine::keys() const {
  std::vector<KeyInfo> all;
  all.reserve(keys_.size());
  for (const auto& [id, record] : keys_) all.push_back(info_of(record));
  return all;
}

Result<KeyInfo> HostEngine::key(const std::string& id_or_alias) const {
  // An alias may look like an id.
  if (const auto id = CmkId::parse(id_or_alias)) {
    if (const auto found = keys_.find(*id); found != keys_.end()) return info_of(found->second);
  }
  for (const auto& [id, record] : keys_) {
    if (record.alias == id_or_alias) return info_of(record);
  }
  return fail(Reason::kNoSuchKey, "no key \"" + printable(id_or_alias, 100) + "\"");
}

void HostEngine::tell_damaged(const std::vector<Error>& damaged) {
  for (const Error& error : damaged) {
    if (damaged_told_.size() >= kDamagedToldMax) return;
    if (damaged_told_.insert(error.str()).second) print(3, error.str());
  }
}

void HostEngine::list_keys(const keyring::KeyQuery& query, Done<std::vector<KeyInfo>> done) {
  read_beside([this, query] { return page_of(parts_.keyring, query); },
              [this, done](const Result<keyring::KeyPage>& page) {
                if (!page) return done(tl::unexpected(page.error()));
                tell_damaged(page->damaged);
                std::vector<KeyInfo> found;
                found.reserve(page->keys.size());
                for (const CmkRecord& record : page->keys) found.push_back(info_of(record));
                done(std::move(found));
              });
}

void HostEngine::count_keys(const keyring::KeyFilter& filter, Done<std::uint64_t> done) {
  read_beside([this, filter] { return parts_.keyring.count(filter); },
              [done](const Result<std::uint64_t>& count) { done(count); });
}

// Why the caller says it does what comes next: durable before that. Blocks.
Result<void> HostEngine::record_reason(const KeyCall& call) {
  if (call.caller.reason.empty()) return {};
  audit::Event note;
  note.kind = audit::Kind::kNote;
  note.actor = actor_of(call.caller);
  note.operation = call.operation;
  note.text = "reason: " + call.caller.reason;
  std::vector<audit::Event> notes(std::max<std::size_t>(call.keys.size(), 1), note);
  for (std::size_t i = 0; i < call.keys.size(); ++i) notes[i].cmk = call.keys[i];
  const auto recorded = parts_.log.append(notes);
  if (!recorded) return pass(recorded.error(), "record the reason of " + call.operation);
  return {};
}

void HostEngine::take_key(const CmkRecord& record, bool is_new) {
  if (record.state == keyring::KeyState::kDestroyed) {
    key_tags_.erase(record.id);
    tags_taken_.erase(record.id);
    note_deletion(record);
    if (keys_.erase(record.id) > 0 && observer_ != nullptr) observer_->key_removed(record.id);
    return;
  }
  const auto known = keys_.find(record.id);
  // Two changes at the same time are told in any order.
  if (known != keys_.end() && known->second.revision > record.revision) return;
  const bool added = is_new || known == keys_.end();
  const bool serves =
      record.state == keyring::KeyState::kEnabled || record.state == keyring::KeyState::kArchived;
  // Its material was bound to expire, or had when volumes asked for it.
  const bool stays = !added && known->second.material_valid_to && !record.material_valid_to &&
                     record.has_material() && serves;
  keys_.insert_or_assign(record.id, record);
  note_due(record);
  note_deletion(record);
  if (stays) take_enabled(record.id);
  if (observer_ == nullptr) return;
  if (added) {
    observer_->key_added(record.id);
  } else {
    observer_->key_changed(record.id);
  }
}

void HostEngine::create_key(const keyring::CmkParameters& parameters, const Caller& caller,
                            Done<KeyInfo> done) {
  keyring::CmkParameters wanted = parameters;
  if (!wanted.id) {
    // Drawn here: the caller's reason names it.
    const auto drawn = CmkId::made_at(parts_.clock.wall());
    if (!drawn) return done(tl::unexpected(drawn.error()));
    wanted.id = *drawn;
  }
  run_for_caller(
      {"key.create", {*wanted.id}, caller},
      [this, wanted, actor = actor_of(caller)] { return parts_.keyring.create(wanted, actor); },
      [this, done](const Result<CmkRecord>& made) {
        if (!made) return done(tl::unexpected(made.error()));
        if (!keys_.contains(made->id)) take_key(*made, true);
        done(info_of(*made));
      });
}

// Once, and again, ever later, while the journal or the store cannot be read.
void HostEngine::reconcile_keys() {
  const auto take = [this](const Result<std::size_t>& closed) {
    if (closed) return;
    print(4, "close what a crash left of key changes: " + closed.error().str());
    keys_wait_ = longer_wait(keys_wait_);
    keys_at_ = parts_.clock.steady() + keys_wait_;
  };
  run_beside(
      pool_, [this] { return parts_.keyring.reconcile(); }, take,
      [take](const Error& error) { take(tl::unexpected(error)); });
}

void HostEngine::change_key(const CmkId& id, const KeyChange& change, const Caller& caller,
                            Done<void> done) {
  if (change.change.kind == keyring::CmkChange::kDestroyVersion) {
    return destroy_version(id, change, caller, done);
  }
  // Rows count even where their bindings do not stand yet.
  const std::uint32_t volumes = volumes_.count_using(id);
  const auto serves = [this](const CmkId& other) {
    const auto found = keys_.find(other);
    return found != keys_.end() && (found->second.state == keyring::KeyState::kEnabled ||
                                    found->second.state == keyring::KeyState::kArchived);
  };
  const std::string opens = opens_text(volumes, volumes_.count_needing(id, serves));
  if (volumes > 0 && !change.force && keyring::takes_key_away(change.change)) {
    const Error bound(Reason::kKeyBound, "key " + id.str() + " " + opens);
    record_refusal(keyring::change_operation(change.change), id.str(), bound, caller);
    return done(tl::unexpected(bound));
  }
  run_for_caller(
      {keyring::change_operation(change.change), {id}, caller},
      [this, id, change, actor = actor_of(caller)]() -> Result<Changed> {
        const auto when = change.force ? keyring::WhenBound::kGoOn : keyring::WhenBound::kRefuse;
        const auto users =
            takes_by_force(change) ? require_only_volumes(id, parts_.keyring) : Result<void>();
        auto changed = parts_.keyring.change_many({&id, 1}, change.change, actor, when).front();
        if (!changed) return tl::unexpected(changed.error());
        const bool others = !users && users.error().reason() == Reason::kKeyBound;
        return Changed{std::move(*changed), others ? users.error().message() : ""};
      },
      [this, done, volumes, opens, change](const Result<Changed>& end) {
        // The keyring's observer has told of it already.
        if (!end) return done(tl::unexpected(end.error()));
        done({});
        const CmkRecord* const changed = &end->record;
        const keyring::CmkChange& what = change.change;
        const bool came_back = what.kind == keyring::CmkChange::kEnable ||
                               what.kind == keyring::CmkChange::kCancelArchive;
        if (came_back) take_enabled(changed->id);
        if (!takes_by_force(change) || (volumes == 0 && end->user.empty())) return;
        const std::string why = volumes > 0 ? "it " + opens : end->user;
        print_of_key(KeyEvent::kTakenByForce, 4, changed->id,
                     "key " + changed->alias + " is " +
                         std::string(key_state_name(changed->state)) + " by force: " + why);
      });
}

// Volumes that failed for want of this key are what it was enabled for.
void HostEngine::take_enabled(const CmkId& id) {
  key_came_at_ = parts_.clock.steady();
  settle_bindings_of({id});
  retry_now([&](const Volume& volume) {
    const auto& error = volume.info.last_error;
    const auto& used = volume.row.keys;
    return error && is_of_state(error->reason()) &&
           std::find(used.begin(), used.end(), id) != used.end();
  });
  want_file_systems();
  recover_rows();
}

// What began before a key came may have been told of it as it was.
bool HostEngine::key_came_meanwhile(const Error& error, SteadyTime began) const {
  return is_of_state(error.reason()) && key_came_at_ && began < *key_came_at_;
}

void HostEngine::set_key_tags(const CmkId& id, const std::vector<keyring::KeyTag>& tags,
                              const Caller& caller, Done<void> done) {
  struct End {
    Result<void> set;
    Result<std::vector<keyring::KeyTag>> now;  // Whatever came of it.
    std::uint64_t reading = 0;
  };
  run_for_caller(
      {"key.tag", {id}, caller},
      [this, id, tags, actor = actor_of(caller)]() -> Result<End> {
        auto set = parts_.keyring.set_tags(id, tags, actor);
        // One reads at a time: a later reading has the newer tags, whichever is told first.
        const std::scoped_lock lock(tags_mutex_);
        return End{std::move(set), parts_.keyring.tags(id), ++tags_read_};
      },
      [this, id, done](const Result<End>& end) {
        if (!end) return done(tl::unexpected(end.error()));
        if (end->now && keys_.contains(id) && tags_taken_[id] < end->reading) {
          tags_taken_[id] = end->reading;
          key_tags_.insert_or_assign(id, *end->now);
          if (end->now->empty()) key_tags_.erase(id);
        }
        if (observer_ != nullptr && keys_.contains(id)) observer_->key_changed(id);
        done(end->set);
      });
}

void HostEngine::prepare_import(const CmkId& id, keyring::ImportWrapping wrapping,
                                const Caller& caller, Done<keyring::ImportParameters> done) {
  run_for_caller(
      {"key.prepare-import", {id}, caller},
      [this, id, wrapping, actor = actor_of(caller)] {
        return parts_.keyring.prepare_import(id, wrapping, actor);
      },
      [done](const Result<keyring::ImportParameters>& prepared) { done(prepared); });
}

void HostEngine::import_material(const CmkId& id, const keyring::ImportMaterial& material,
                                 const Caller& caller, Done<void> done) {
  // Rows count even where their bindings do not stand yet.
  if (const auto volumes = volumes_.count_using(id); volumes > 0 && material.valid_to) {
    const Error bound(Reason::kKeyBound, "key " + id.str() + " opens " + volumes_text(volumes) +
                                             ": its material may not expire");
    record_refusal("key.import", id.str(), bound, caller);
    return done(tl::unexpected(bound));
  }
  run_for_caller(
      {"key.import", {id}, caller},
      [this, id, material, actor = actor_of(caller)] {
        return parts_.keyring.import_material(id, material, actor);
      },
      [this, done](const Result<CmkRecord>& imported) {
        if (!imported) return done(tl::unexpected(imported.error()));
        done({});
        take_enabled(imported->id);
      });
}

void HostEngine::settle_bindings_of(const std::vector<CmkId>& keys) {
  if (keys.empty()) return;
  run_settling(keys, false);
}

void HostEngine::settle_all_bindings() {
  run_settling({}, true);
}

// What fails is tried again, later and later: for the keys it failed for. `all`: of all keys that
// have something to settle, instead of `keys`.
void HostEngine::run_settling(const std::vector<CmkId>& keys, bool all) {
  struct End {
    std::vector<CmkId> keys{};
    Result<BindingsSettled> settled = fail(Reason::kInternal, "not begun");
  };
  const auto take = [this, all](const End& end) {
    std::vector<CmkId> again;
    if (!end.settled) {
      bindings_all_ = bindings_all_ || all;
      again = end.keys;
    } else {
      for (const auto& failure : end.settled->failed) again.push_back(failure.key);
    }
    if (end.settled && again.empty()) {
      bindings_wait_ = std::chrono::milliseconds(0);
      return;
    }
    print(4, "bind volumes to their keys: " +
                 (end.settled ? end.settled->failed.front().error : end.settled.error()).str());
    settle_later(again);
  };
  run_beside(
      pool_,
      [this, keys, all, actor = actor_of(self())] {
        const auto which = all ? keys_to_settle(parts_.registry, parts_.keyring) : keys;
        if (!which) return End{{}, tl::unexpected(which.error())};
        return End{*which, settle_bindings(*which, parts_.registry, parts_.keyring, actor)};
      },
      take, [take, keys](const Error& error) { take({keys, tl::unexpected(error)}); });
}

void HostEngine::settle_later(const std::vector<CmkId>& keys) {
  bindings_of_.insert(keys.begin(), keys.end());
  bindings_wait_ = longer_wait(bindings_wait_);
  bindings_at_ = parts_.clock.steady() + bindings_wait_;
}

// At start all, and again what failed.
void HostEngine::settle_what_is_due() {
  if (!bindings_at_ || parts_.clock.steady() < *bindings_at_) return;
  bindings_at_.reset();
  const std::set<CmkId> keys = std::exchange(bindings_of_, {});
  if (std::exchange(bindings_all_, false)) return settle_all_bindings();
  settle_bindings_of({keys.begin(), keys.end()});
}

void HostEngine::note_due(const CmkRecord& record) {
  const auto note = [this](const std::optional<WallTime>& time) {
    if (time && (!due_at_ || *time < *due_at_)) due_at_ = time;
  };
  note(record.delete_at);
  note(record.material_valid_to);
  if (record.state == keyring::KeyState::kEnabled) note(record.next_rotation);
}

void HostEngine::look_for_due() {
  const SteadyTime now = parts_.clock.steady();
  const bool is_due = (due_at_ && parts_.clock.wall() >= *due_at_) || !due_looked_at_ ||
                      now - *due_looked_at_ >= kDueEvery;
  if (due_running_ || !is_due || (due_again_at_ && now < *due_again_at_)) return;
  due_running_ = true;
  due_at_.reset();
  due_looked_at_ = now;
  run_beside(
      unlock_pool_, [this, actor = actor_of(self())] { return parts_.keyring.run_due(actor); },
      [this](const Result<keyring::DueReport>& report) { take_due(report); },
      [this](const Error& error) { take_due(tl::unexpected(error)); });
}

// The changes themselves were told by the keyring's observer.
void HostEngine::take_due(const Result<keyring::DueReport>& report) {
  due_running_ = false;
  alarm_of_near_deletions();
  std::string trouble;
  if (!report) {
    trouble = report.error().str();
    due_at_ = WallTime{};
    due_wait_ = longer_wait(due_wait_);
    due_again_at_ = parts_.clock.steady() + due_wait_;
  } else {
    due_wait_ = std::chrono::milliseconds(0);
    due_again_at_.reset();
    for (const CmkRecord& record : report->done) {
      print_of_key(KeyEvent::kDue, 5, record.id,
                   "key " + record.alias + " is " + std::string(key_state_name(record.state)) +
                       ", version " + std::to_string(record.current().number) + ": it was due");
    }
    for (const Error& error : report->failed) {
      // Who changes the key at this moment tells of it.
      if (error.reason() == Reason::kInProgress) continue;
      if (!trouble.empty()) trouble += "; ";
      trouble += error.str();
    }
    if (report->next && (!due_at_ || *report->next < *due_at_)) due_at_ = report->next;
  }
  if (!trouble.empty() && trouble != due_told_) {
    print(4, "what is due of keys is not done: " + trouble);
  }
  due_told_ = trouble;
}

}  // namespace coffer::agent
