// SPDX-License-Identifier: Apache-2.0
// One change of many keys in one call.
#include <array>
#include <memory>
#include <set>

#include "core/keyring/key_transitions.h"
#include "dbus/actions.h"
#include "dbus/key_plans.h"
#include "dbus/names.h"
#include "dbus/paths.h"

namespace coffer::dbus {
namespace {

using agent::KeyInfo;
using keyring::CmkChange;

constexpr OptionSpec kManyOptions[] = {{"force", 'b'}, {"days", 'u'}};

// What a caller may do to many keys: the changes that are the same for each of them.
struct ManyChange {
  std::string_view word;
  const char* operation;  // As of the method for one key.
  CmkChange::Kind kind;
  const char* action;
  bool has_force = false;
  bool has_days = false;
};
constexpr auto kChanges = std::to_array<ManyChange>({
    {"enable", "enable-key", CmkChange::kEnable, kActionManageKeys},
    {"disable", "disable-key", CmkChange::kDisable, kActionManageKeys, true},
    {"archive", "archive-key", CmkChange::kArchive, kActionManageKeys, true},
    {"cancel-archive", "cancel-key-archive", CmkChange::kCancelArchive, kActionManageKeys},
    {"schedule-deletion", "schedule-key-deletion", CmkChange::kScheduleDeletion, kActionDeleteKeys,
     true, true},
    {"cancel-deletion", "cancel-key-deletion", CmkChange::kCancelDeletion, kActionManageKeys},
    {"rotate", "rotate-key", CmkChange::kRotate, kActionManageKeys},
    {"set-rotation", "set-key-rotation", CmkChange::kSetRotation, kActionManageKeys, false, true},
    {"delete-material", "delete-key-material", CmkChange::kDeleteMaterial, kActionDeleteKeys, true},
});

Result<const ManyChange*> change_by_word(const std::string& word) {
  std::string known;
  for (const auto& change : kChanges) {
    if (change.word == word) return &change;
    known.append(known.empty() ? "" : ", ").append(change.word);
  }
  return fail(Reason::kInvalidArgs,
              "change is one of " + known + ", not \"" + printable(word, 64) + "\"");
}

// What the options say of it. kInvalidArgs: one that this change has not, or that it lacks.
Result<agent::KeyChange> wanted_change(const ManyChange& change, const Options& options) {
  agent::KeyChange wanted{change.kind, options.flag("force")};
  if (wanted.force && !change.has_force)
    return fail(Reason::kInvalidArgs, std::string(change.word) + " takes no force");
  const auto days = options.number("days");
  if (days.has_value() != change.has_days) {
    return fail(Reason::kInvalidArgs,
                std::string(change.word) + (days ? " takes no days" : " needs the option days"));
  }
  if (days) wanted.change.days = static_cast<std::uint32_t>(*days);
  return wanted;
}

Result<std::vector<CmkId>> read_keys(Reader& reader) {
  const auto paths = reader.object_paths(kKeysInCallMax);
  if (!paths) return tl::unexpected(paths.error());
  if (paths->empty()) return fail(Reason::kInvalidArgs, "the list names no key");
  std::vector<CmkId> ids;
  std::set<CmkId> known;
  for (const auto& path : *paths) {
    const auto id = key_of_path(path.c_str());
    if (!id) return fail(Reason::kInvalidArgs, printable(path, 100) + " is no key's path");
    if (!known.insert(*id).second)
      return fail(Reason::kInvalidArgs, "key " + id->str() + " is given twice");
    ids.push_back(*id);
  }
  return ids;
}

// The keys of one call, changed one after the other: one that fails holds up no other.
struct Batch {
  struct Entry {
    CmkId id;
    std::optional<Error> error{};             // Set before its turn: it is left out.
    std::function<Result<void>()> recheck{};  // As Plan::recheck, for this key.
  };
  agent::Engine& engine;
  agent::KeyChange change;
  agent::Caller caller;
  Reply reply;
  std::vector<Entry> entries;
  std::size_t next = 0;
  std::optional<Error> lost{};  // Why the token does nothing for the keys that follow.
};

int append_results(sd_bus_message* m, const Batch& batch) {
  int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "(oss)");
  for (const auto& entry : batch.entries) {
    const auto& error = entry.error;
    if (r >= 0) {
      r = ::sd_bus_message_append(m, "(oss)", key_path(entry.id).c_str(),
                                  error ? dbus_error_name(error->reason()).c_str() : "",
                                  error ? printable_utf8(error->message()).c_str() : "");
    }
  }
  return r < 0 ? r : ::sd_bus_message_close_container(m);
}

// The token is away for one key as for the next: each would be waited for in vain.
bool is_of_all(Reason reason) {
  return reason == Reason::kHsmAbsent || reason == Reason::kHsmTimeout ||
         reason == Reason::kHsmLoginNeeded || reason == Reason::kHsmPinIncorrect ||
         reason == Reason::kHsmPinLocked;
}

// Asked on its turn: the keys before it may have taken minutes. Root was asked nothing.
bool is_left_out(const Batch& batch, Batch::Entry& entry) {
  if (entry.error) return true;
  if (batch.lost) {
    entry.error = batch.lost;
  } else if (batch.caller.uid == 0) {
    return false;
  } else if (const auto same = entry.recheck(); !same) {
    entry.error = same.error();
  } else {
    return false;
  }
  batch.engine.record_refusal(keyring::change_operation(batch.change.change), entry.id.str(),
                              *entry.error, batch.caller);
  return true;
}

void change_next(const std::shared_ptr<Batch>& batch) {
  auto& entries = batch->entries;
  while (batch->next < entries.size() && is_left_out(*batch, entries[batch->next])) ++batch->next;
  if (batch->next == entries.size()) {
    return batch->reply.fill([&](sd_bus_message* m) { return append_results(m, *batch); });
  }
  auto& entry = entries[batch->next++];
  batch->engine.change_key(entry.id, batch->change, batch->caller,
                           [batch, &entry](const Result<void>& done) {
                             if (!done) entry.error = done.error();
                             if (!done && is_of_all(done.error().reason()))
                               batch->lost = done.error();
                             change_next(batch);
                           });
}

}  // namespace

Result<Plan> on_change_many(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto word = reader.text();
  if (!word) return tl::unexpected(word.error());
  const auto ids = read_keys(reader);
  if (!ids) return tl::unexpected(ids.error());
  const auto options = key_options(reader, kManyOptions);
  if (!options) return tl::unexpected(options.error());
  const auto change = change_by_word(*word);
  if (!change) return tl::unexpected(change.error());
  const auto wanted = wanted_change(**change, *options);
  if (!wanted) return tl::unexpected(wanted.error());

  auto plan = key_plan((*change)->operation, "", "", *options);
  plan.action = (*change)->action;
  plan.audited_as = keyring::change_operation(wanted->change);
  plan.subjects.clear();
  std::vector<Batch::Entry> entries;
  for (const auto& id : *ids) {
    const auto key = context.engine.key(id.str());
    // One that is not there has its result: nobody is asked for it, and it is not tried.
    entries.push_back({id, key ? std::optional<Error>() : std::optional(key.error())});
    if (!key) continue;
    auto one = change_plan(context, (*change)->operation, *key, *options, wanted->change);
    plan.subjects.push_back(std::move(one.subjects.front()));
    plan.objects.push_back(id.str());
    entries.back().recheck = std::move(one.recheck);
  }
  if (plan.subjects.empty()) return fail(Reason::kNoSuchKey, "none of the keys is there");
  plan.run = [&engine = context.engine, entries = std::move(entries), wanted = *wanted](
                 const agent::Caller& caller, const Reply& reply) {
    change_next(std::make_shared<Batch>(Batch{engine, wanted, caller, reply, entries}));
  };
  return plan;
}

}  // namespace coffer::dbus
