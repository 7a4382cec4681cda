// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/key_transitions.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <type_traits>
#include <utility>

namespace coffer::keyring {
namespace {

constexpr std::size_t kRecordsPerQuery = 1000;

// Those before its first one it had: they were destroyed.
bool has_all_versions_of(const CmkRecord& record, const CmkRecord& other) {
  return std::ranges::all_of(other.versions, [&](const KeyVersion& version) {
    return version.number < record.versions.front().number ||
           record.find_version(version.number) != nullptr;
  });
}

// The same number may not name two keys: what one wrapped the other does not open.
Result<void> require_same_versions(const CmkRecord& record, const CmkRecord& other) {
  for (const KeyVersion& version : record.versions) {
    const KeyVersion* const there = other.find_version(version.number);
    if (there == nullptr) continue;
    const bool one_lost_it = version.material.empty() || there->material.empty();
    if (version.created == there->created && (one_lost_it || version.material == there->material))
      continue;
    return fail(Reason::kRecordInvalid, "version " + std::to_string(version.number) + " of key " +
                                            record.id.str() +
                                            " is another one in the volume's token than in the "
                                            "store: it was made anew after the store was lost");
  }
  return {};
}

// Whether the key is already as `change` would leave it.
bool is_done_already(const CmkRecord& record, const CmkChange& change) {
  return (change.kind == CmkChange::kEnable && record.state == KeyState::kEnabled) ||
         (change.kind == CmkChange::kDisable && record.state == KeyState::kDisabled) ||
         (change.kind == CmkChange::kArchive && record.state == KeyState::kArchived);
}

std::string stored_perhaps(const std::string& operation, const CmkId& id) {
  return operation + " of key " + id.str() + ", which may be stored all the same";
}

// How volumes are named among what a key is bound to, and the first name behind all of them.
constexpr std::string_view kOfVolumes = "volume:";
constexpr std::string_view kBehindVolumes = "volume:\x7f";

// No header and no list tells what callers encrypted: what takes a version from them for good comes
// after a step that can be taken back. Of a bound key the caller has looked (WhenBound::kProved).
Result<void> require_unused_by_callers(const CmkRecord& record, std::uint32_t number) {
  const KeyVersion* version = record.find_version(number);
  const bool serves = record.state == KeyState::kEnabled || record.state == KeyState::kArchived;
  const bool is_older = version != nullptr && version->state == VersionState::kDecryptOnly;
  // Of a service's key the vault destroys none at all.
  const bool of_user = record.owner == KeyOwner::kUser;
  if (!of_user || !serves || !is_older || version->wraps_leased == 0) return {};
  return fail(Reason::kKeyNotDisabled,
              "destroy version " + std::to_string(number) + " of key " + record.id.str() + " ('" +
                  record.alias +
                  "'): it may have encrypted data of callers, which nothing here can prove to be "
                  "moved; encrypt them anew, disable the key to see that nothing misses the "
                  "version, and destroy it then, or say force");
}

// What an auditor has to know of a change beside its name.
std::string details(const CmkRecord& record, const CmkChange& change) {
  const std::string alias = "alias " + record.alias;
  switch (change.kind) {
    case CmkChange::kScheduleDeletion:
      return alias + ", in " + std::to_string(change.days) + " days";
    case CmkChange::kSetRotation:
      if (change.days == 0) return alias + ", no longer by itself";
      return alias + ", every " + std::to_string(change.days) + " days";
    case CmkChange::kDestroyVersion:
      return alias + ", version " + std::to_string(change.version);
    case CmkChange::kDescribe:
      return !change.alias || *change.alias == record.alias
                 ? alias
                 : alias + ", from now on " + *change.alias;
    default:
      return alias;
  }
}

bool is_transition(const std::string& operation) {
  for (int kind = CmkChange::kEnable; kind <= CmkChange::kSetValidTo; ++kind) {
    if (operation == change_operation(static_cast<CmkChange::Kind>(kind))) return true;
  }
  constexpr std::array<std::string_view, 6> kOthers{
      "key.create", "key.prepare-import", "key.import", "key.tag", "key.bind", "key.unbind"};
  return std::ranges::find(kOthers, operation) != kOthers.end();
}

}  // namespace

std::string change_operation(const CmkChange& change) {
  switch (change.kind) {
    case CmkChange::kEnable:
      return "key.enable";
    case CmkChange::kDisable:
      return "key.disable";
    case CmkChange::kRotate:
      return "key.rotate";
    case CmkChange::kAdopt:
      return "key.adopt";
    case CmkChange::kLease:
      return "key.lease";
    case CmkChange::kArchive:
      return "key.archive";
    case CmkChange::kCancelArchive:
      return "key.cancel-archive";
    case CmkChange::kScheduleDeletion:
      return "key.schedule-deletion";
    case CmkChange::kCancelDeletion:
      return "key.cancel-deletion";
    case CmkChange::kDestroy:
      return "key.destroy";
    case CmkChange::kSetRotation:
      return "key.set-rotation";
    case CmkChange::kDescribe:
      return "key.describe";
    case CmkChange::kDeleteMaterial:
      return "key.delete-material";
    case CmkChange::kExpireMaterial:
      return "key.expire-material";
    case CmkChange::kDestroyVersion:
      return "key.destroy-version";
    case CmkChange::kSetValidTo:
      return "key.set-valid-to";
  }
  return "key.change";
}

bool takes_key_away(const CmkChange& change) {
  return change.kind == CmkChange::kDisable || change.kind == CmkChange::kArchive ||
         change.kind == CmkChange::kScheduleDeletion || change.kind == CmkChange::kDeleteMaterial ||
         change.kind == CmkChange::kDestroyVersion;
}

class KeyTransitions::Claim {
 public:
  Claim(KeyTransitions& owner, const CmkId& id) : owner_(&owner), id_(id) {}
  Claim(Claim&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)), id_(other.id_) {}
  Claim& operator=(Claim&&) = delete;
  ~Claim() {
    if (owner_ == nullptr) return;
    {
      const std::lock_guard lock(owner_->mutex_);
      owner_->changing_.erase(id_);
    }
    owner_->changed_.notify_all();
  }

 private:
  KeyTransitions* owner_;
  CmkId id_;
};

Result<KeyTransitions::Claim> KeyTransitions::claim(const CmkId& id, Turn turn,
                                                    std::optional<Deadline> deadline) {
  std::unique_lock lock(mutex_);
  for (auto found = changing_.find(id); found != changing_.end(); found = changing_.find(id)) {
    if (turn == Turn::kNow && found->second == Turn::kNow) {
      return fail(Reason::kInProgress, "key " + id.str() + " is being changed by somebody else");
    }
    if (!deadline) {
      changed_.wait(lock);
    } else if (changed_.wait_until(lock, deadline->at()) == std::cv_status::timeout) {
      return fail(Reason::kHsmTimeout,
                  "key " + id.str() + " is being changed, and the time for the call is over");
    }
  }
  changing_.emplace(id, turn);
  return Claim(*this, id);
}

tl::unexpected<Error> KeyTransitions::refused(const Error& error, const std::string& operation,
                                              const std::optional<CmkId>& id,
                                              const audit::Actor& actor) {
  audit::Event event;
  event.kind = audit::Kind::kRefused;
  event.actor = actor;
  event.operation = operation;
  event.cmk = id;
  event.outcome = std::string(error.name());
  event.text = error.message();
  // Nothing happens, so nothing waits for the record.
  log_.append_deferred(std::move(event));
  return tl::unexpected(error);
}

template <class Act>
auto KeyTransitions::between_records(const CmkId& id, const std::string& operation,
                                     const std::string& text, const audit::Actor& actor, Act act) {
  bool is_unknown = false;
  using Done = decltype(act(std::uint64_t{0}, is_unknown));
  audit::Event event;
  event.kind = audit::Kind::kIntent;
  event.actor = actor;
  event.operation = operation;
  event.cmk = id;
  event.text = text;
  const auto intent = log_.append_one(event);
  if (!intent) return Done(pass(intent.error(), "record " + operation));

  Done done = act(*intent, is_unknown);
  // No result is recorded: the open intent is what the next start closes by what is stored.
  if (is_unknown) return done;

  event.kind = audit::Kind::kResult;
  event.intent_sequence = *intent;
  event.outcome = audit::outcome_of(done);
  if constexpr (std::is_same_v<Done, Result<CmkRecord>>) {
    if (done) event.cmk_version = done->current().number;
  }
  if (!done) event.text = done.error().message();
  // Kept for the journal's return; if we stop before that, reconcile() closes the intent.
  const auto recorded = log_.append_one_kept(event);
  if (done && !recorded) {
    return Done(pass(recorded.error(), operation + " of key " + id.str() +
                                           " is done, but its result could not be recorded"));
  }
  return done;
}

Result<CmkRecord> KeyTransitions::create(CmkParameters parameters, const audit::Actor& actor) {
  const std::string operation = "key.create";
  if (!parameters.id) {
    const auto drawn = CmkId::made_at(clock_.wall());
    if (!drawn) return tl::unexpected(drawn.error());
    parameters.id = *drawn;
  }
  const CmkId id = *parameters.id;
  if (auto alias = require_alias(parameters.alias); !alias) {
    return refused(alias.error(), operation, std::nullopt, actor);
  }
  if (auto text = require_description(parameters.description); !text) {
    return refused(text.error(), operation, std::nullopt, actor);
  }
  // Asked before the HSM makes a key for nothing; put() asks again.
  const auto taken = store_.get_by_alias(parameters.alias);
  if (taken) {
    const Error error(Reason::kNameTaken, "another key has the alias '" + parameters.alias + "'");
    return refused(error, operation, std::nullopt, actor);
  }
  if (taken.error().reason() != Reason::kNoSuchKey) return tl::unexpected(taken.error());
  auto claimed = claim(id, Turn::kNow);
  if (!claimed) return refused(claimed.error(), operation, id, actor);
  return carry_out_and_tell(std::move(*claimed),
                            {id, operation, "alias " + parameters.alias, 0,
                             [&] { return vault_.create_cmk(parameters); }},
                            actor);
}

Result<void> KeyTransitions::require_unbound(const CmkId& id, const std::string& operation) {
  const auto bound = store_.count_bindings(id);
  if (!bound) return tl::unexpected(bound.error());
  if (*bound == 0) return {};
  return fail(Reason::kKeyBound,
              operation + ": " + std::to_string(*bound) + " resources use key " + id.str());
}

// What volumes need of it has been looked at before (WhenBound::kProved). Of whatever else is bound
// nobody can tell, and it may have been bound since.
Result<void> KeyTransitions::require_may_lose_version(const CmkRecord& record, std::uint32_t number,
                                                      WhenBound when_bound) const {
  const auto first = store_.bindings(record.id, "", 1);
  if (!first) return tl::unexpected(first.error());
  const auto behind = store_.bindings(record.id, kBehindVolumes, 1);
  if (!behind) return tl::unexpected(behind.error());
  const bool volumes_alone =
      behind->empty() && (first->empty() || first->front().starts_with(kOfVolumes));
  if (!volumes_alone) {
    const auto& other = behind->empty() ? first->front() : behind->front();
    return fail(Reason::kKeyBound, "destroy version " + std::to_string(number) + " of key " +
                                       record.id.str() + " ('" + record.alias + "'): " + other +
                                       " uses it, and may need the version");
  }
  if (!first->empty() || when_bound == WhenBound::kGoOn) return {};
  return require_unused_by_callers(record, number);
}

Result<CmkRecord> KeyTransitions::change(const CmkId& id, const CmkChange& change,
                                         const audit::Actor& actor, WhenBound when_bound) {
  const std::string operation = change_operation(change);
  // What the vault would turn down, told before anything is done.
  if (auto good = require_names(change); !good) return refused(good.error(), operation, id, actor);
  auto claimed = claim(id, Turn::kNow);
  if (!claimed) return refused(claimed.error(), operation, id, actor);
  const auto current = read_record(store_, id);
  if (!current) return refused(current.error(), operation, id, actor);
  if (is_done_already(current->record, change)) return current->record;
  const bool expires = change.kind == CmkChange::kSetValidTo && change.time;
  if (expires || (when_bound == WhenBound::kRefuse && takes_key_away(change))) {
    if (auto free = require_unbound(id, operation); !free) {
      return refused(free.error(), operation, id, actor);
    }
  }
  if (change.kind == CmkChange::kDestroyVersion) {
    const auto may = require_may_lose_version(current->record, change.version, when_bound);
    if (!may) return refused(may.error(), operation, id, actor);
  }
  std::string text = details(current->record, change);
  if (when_bound == WhenBound::kGoOn && takes_key_away(change)) text += ", by force";
  return carry_out_and_tell(std::move(*claimed),
                            {id, operation, text, current->record.revision,
                             [&] { return vault_.change_cmk(current->sealed, change); }},
                            actor);
}

Result<CmkRecord> KeyTransitions::change_quietly(const CmkId& id, const CmkChange& change,
                                                 const audit::Actor& actor, Deadline deadline) {
  const std::string operation = change_operation(change);
  const auto claimed = claim(id, Turn::kWait, deadline);
  if (!claimed) return refused(claimed.error(), operation, id, actor);
  const auto current = read_record(store_, id);
  if (!current) return refused(current.error(), operation, id, actor);
  std::optional<CmkRecord> made;
  return carry_out({id, operation, "alias " + current->record.alias, current->record.revision,
                    [&] { return vault_.change_cmk(current->sealed, change); }},
                   actor, made);
}

void KeyTransitions::tell(const CmkRecord& record) const {
  if (observer_) observer_(record, false);
}

Result<CmkRecord> KeyTransitions::change_by(const CmkId& id, const std::string& operation,
                                            const Make& make, const audit::Actor& actor) {
  auto claimed = claim(id, Turn::kNow);
  if (!claimed) return refused(claimed.error(), operation, id, actor);
  const auto current = read_record(store_, id);
  if (!current) return refused(current.error(), operation, id, actor);
  return carry_out_and_tell(std::move(*claimed),
                            {id, operation, "alias " + current->record.alias,
                             current->record.revision, [&] { return make(current->sealed); }},
                            actor);
}

Result<void> KeyTransitions::change_beside(const CmkId& id, const std::string& operation,
                                           const std::string& text, const Store& store,
                                           const audit::Actor& actor, Turn turn) {
  const auto claimed = claim(id, turn);
  if (!claimed) return refused(claimed.error(), operation, id, actor);
  const auto current = read_record(store_, id);
  if (!current) return refused(current.error(), operation, id, actor);
  return between_records(id, operation, text, actor,
                         [&](std::uint64_t intent, bool& is_unknown) -> Result<void> {
                           auto stored = store(current->record, intent);
                           if (!stored && is_stored(id, intent, is_unknown)) return {};
                           if (is_unknown)
                             return pass(stored.error(), stored_perhaps(operation, id));
                           return stored;
                         });
}

Result<CmkRecord> KeyTransitions::adopt(const SealedRecord& sealed, const audit::Actor& actor) {
  const std::string operation = change_operation(CmkChange::kAdopt);
  const auto offered = CmkRecord::decode(sealed);
  if (!offered) return refused(offered.error(), operation, std::nullopt, actor);
  const CmkId id = offered->id;
  auto claimed = claim(id, Turn::kNow);
  if (!claimed) return refused(claimed.error(), operation, id, actor);

  std::uint64_t expected_revision = 0;
  SealedRecord taken = sealed;
  const auto stored = read_record(store_, id);
  if (stored) {
    if (auto same = require_same_versions(stored->record, *offered); !same) {
      return refused(same.error(), operation, id, actor);
    }
    // Presented, so that the adopted record comes to lie above the one it replaces.
    const auto presented = vault_.present(stored->sealed);
    // A store that was put back to an older state: the vault uses its record no more.
    const bool superseded = !presented && presented.error().reason() == Reason::kRecordSuperseded;
    const bool has_all = has_all_versions_of(stored->record, *offered);
    if (has_all && !superseded) return stored->record;
    if (!has_all && !has_all_versions_of(*offered, stored->record)) {
      const Error error(Reason::kRecordInvalid,
                        "key " + id.str() +
                            " has versions in the store that the volume's token lacks, and the "
                            "other way round: neither record is given up for the other");
      return refused(error, operation, id, actor);
    }
    if (!presented && !superseded) return refused(presented.error(), operation, id, actor);
    if (has_all && stored->record.revision > offered->revision) taken = stored->sealed;
    expected_revision = stored->record.revision;
  } else if (stored.error().reason() != Reason::kNoSuchKey || store_.get(id)) {
    // One that is there all the same is destroyed: copies do not bring it back.
    return refused(stored.error(), operation, id, actor);
  }
  return carry_out_and_tell(
      std::move(*claimed),
      {id, operation, "alias " + offered->alias + ", from a volume's token", expected_revision,
       [&] { return vault_.change_cmk(taken, CmkChange::kAdopt); }},
      actor);
}

Result<CmkRecord> KeyTransitions::carry_out(const Plan& plan, const audit::Actor& actor,
                                            std::optional<CmkRecord>& made) {
  return between_records(plan.id, plan.operation, plan.text, actor,
                         [&](std::uint64_t intent, bool& is_unknown) {
                           auto stored = store_and_present(plan, intent, is_unknown);
                           if (stored) made = *stored;
                           return stored;
                         });
}

Result<CmkRecord> KeyTransitions::carry_out_and_tell(Claim claimed, const Plan& plan,
                                                     const audit::Actor& actor) {
  std::optional<CmkRecord> made;
  auto done = carry_out(plan, actor, made);
  {
    const Claim given_back = std::move(claimed);
  }
  // Also when the result could not be recorded: the change is made.
  if (made && observer_) observer_(*made, plan.expected_revision == 0);
  return done;
}

// A commit that reported an error may have happened all the same; what the store says now counts.
bool KeyTransitions::is_stored(const CmkId& id, std::uint64_t intent, bool& is_unknown) {
  const auto stored = store_.intent_of(id);
  is_unknown = !stored && stored.error().reason() != Reason::kNoSuchKey;
  return stored && *stored == intent;
}

Result<CmkRecord> KeyTransitions::store_and_present(const Plan& plan, std::uint64_t intent,
                                                    bool& is_unknown) {
  const auto sealed = plan.make();
  if (!sealed) return tl::unexpected(sealed.error());
  auto record = CmkRecord::decode(*sealed);
  if (!record || record->id != plan.id || record->revision <= plan.expected_revision) {
    return fail(Reason::kHsmFailed, "the vault made a record that is not the one asked for");
  }
  const auto put = store_.put(*sealed, plan.expected_revision, intent);
  if (!put && !is_stored(plan.id, intent, is_unknown)) {
    if (is_unknown) return pass(put.error(), stored_perhaps(plan.operation, plan.id));
    return tl::unexpected(put.error());
  }
  // From here on the change is made. If the vault cannot be told now, it learns of it when the
  // record is used next, or by present_again(); until then only this keyring, which reads its
  // store, holds to it.
  static_cast<void>(present(*sealed, *record));
  return record;
}

// The store remembers what the vault has not seen.
Result<void> KeyTransitions::present(const SealedRecord& sealed, const CmkRecord& record) {
  const auto presented = vault_.present(sealed);
  // Of one that is superseded the vault has seen a newer one.
  const bool known = presented || presented.error().reason() == Reason::kRecordSuperseded;
  if (!known) return pass(presented.error(), "show the vault key " + record.id.str());
  return store_.set_presented(record.id, record.revision);
}

std::vector<Error> KeyTransitions::present_again() {
  constexpr std::size_t kRecordsMax = 1000;
  std::vector<Error> failed;
  const auto waiting = store_.unpresented(kRecordsMax);
  if (!waiting) return {waiting.error()};
  for (const auto& stored : *waiting) {
    const auto record = record_of(stored);
    const auto done =
        record ? present(stored.record, *record) : Result<void>(tl::unexpected(record.error()));
    if (!done) failed.push_back(done.error());
  }
  return failed;
}

Result<audit::Event> KeyTransitions::closing_event(const audit::Record& intent) {
  audit::Event event;
  event.kind = audit::Kind::kResult;
  event.actor.origin = audit::Origin::kDaemon;
  event.operation = intent.event.operation;
  event.cmk = intent.event.cmk;
  event.request_id = intent.event.request_id;
  event.intent_sequence = intent.sequence;
  event.outcome = std::string(reason_info(Reason::kCancelled).name);
  if (!intent.event.cmk || !is_transition(intent.event.operation)) {
    event.text = "the agent stopped in the middle; keys may have been used";
    return event;
  }
  event.text = "the agent stopped before the change was stored";
  const auto stored = store_.intent_of(*intent.event.cmk);
  if (!stored && stored.error().reason() != Reason::kNoSuchKey) {
    return tl::unexpected(stored.error());
  }
  if (stored && *stored == intent.sequence) {
    event.outcome = std::string(audit::kOutcomeOk);
    event.text = "the change was stored; the agent stopped before it recorded that";
  }
  return event;
}

Result<std::size_t> KeyTransitions::reconcile() {
  // A journal that could not be opened at the start of this process tells it when it is.
  if (!begun_after_) {
    if (const auto head = log_.head_found()) begun_after_ = head->sequence;
  }
  if (!begun_after_) {
    return fail(Reason::kAuditUnavailable, "reconcile keys: the journal is not open");
  }
  const std::uint64_t end = *begun_after_;
  auto begin = store_.reconciled_to();
  if (!begin) return tl::unexpected(begin.error());
  // A journal that ends before the mark is a new one.
  if (*begin > end) *begin = 0;

  std::map<std::uint64_t, audit::Record> open;
  audit::Filter filter;
  filter.operation = "key.*";
  filter.to_sequence = end;
  for (filter.from_sequence = *begin + 1;
       filter.from_sequence != 0 && filter.from_sequence <= end;) {
    auto page = log_.query(filter, kRecordsPerQuery);
    if (!page) return pass(page.error(), "reconcile keys");
    for (auto& record : page->records) {
      if (record.event.kind == audit::Kind::kIntent) open.emplace(record.sequence, record);
      if (record.event.kind == audit::Kind::kResult) open.erase(record.event.intent_sequence);
    }
    filter.from_sequence = page->next_sequence;
  }

  std::vector<audit::Event> closing;
  for (const auto& [sequence, intent] : open) {
    auto event = closing_event(intent);
    if (!event) return pass(event.error(), "reconcile keys");
    closing.push_back(std::move(*event));
  }
  for (std::size_t i = 0; i < closing.size(); i += audit::AuditLog::kEventsMax) {
    const auto count = std::min(closing.size() - i, audit::AuditLog::kEventsMax);
    if (auto done = log_.append(std::span(closing).subspan(i, count)); !done) {
      return pass(done.error(), "reconcile keys");
    }
  }
  // As it would have been: the records that these changes replaced are refused from now on. What
  // the vault does not take now is shown to it again with what is due.
  static_cast<void>(present_again());
  if (auto marked = store_.set_reconciled_to(end); !marked) return tl::unexpected(marked.error());
  return closing.size();
}

}  // namespace coffer::keyring
