// SPDX-License-Identifier: Apache-2.0
// The life of a key as its object's methods change it.
#include <algorithm>

#include "core/base/sealed_secret.h"
#include "core/keyring/import_limits.h"
#include "dbus/key_plans.h"
#include "dbus/key_words.h"
#include "dbus/message.h"
#include "dbus/names.h"
#include "dbus/paths.h"

namespace coffer::dbus {
namespace {

using agent::KeyChange;
using agent::KeyInfo;
using keyring::CmkChange;

constexpr OptionSpec kForce[] = {{"force", 'b'}};
constexpr OptionSpec kDescription[] = {{"alias", 's'}, {"description", 's'}};
constexpr OptionSpec kWrapping[] = {{"wrapping", 's'}};
constexpr OptionSpec kValidTo[] = {{"valid-to-usec", 't'}};

constexpr std::size_t kImportTokenBytesMax = 4096;

// A method whose arguments are options alone.
Result<Plan> plain_change(Context& context, sd_bus_message* call, const char* operation,
                          CmkChange::Kind kind, std::span<const OptionSpec> own = {}) {
  Reader reader(call);
  const auto options = key_options(reader, own);
  if (!options) return tl::unexpected(options.error());
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  return change_plan(context, operation, *key, *options, kind);
}

// One with a number before them, which is a field of the change.
Result<Plan> number_change(Context& context, sd_bus_message* call, const char* operation,
                           CmkChange change, std::uint32_t CmkChange::* field,
                           std::span<const OptionSpec> own = {}) {
  Reader reader(call);
  const auto number = reader.u32();
  if (!number) return tl::unexpected(number.error());
  const auto options = key_options(reader, own);
  if (!options) return tl::unexpected(options.error());
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  change.*field = *number;
  return change_plan(context, operation, *key, *options, change);
}

Result<std::optional<WallTime>> time_option(const Options& options, std::string_view name) {
  const auto usec = options.number(name);
  if (!usec || *usec == 0) return std::optional<WallTime>();
  if (*usec > std::uint64_t{INT64_MAX}) {
    return fail(Reason::kInvalidArgs, std::string(name) + " is no time");
  }
  return std::optional(wall_from_usec(*usec));
}

std::uint32_t current_of(const keyring::CmkRecord& record) {
  return record.versions.empty() ? 0 : record.current().number;
}

// Not by the revision: uses of a key change that, too.
bool looks_the_same(const keyring::CmkRecord& a, const keyring::CmkRecord& b) {
  return a.alias == b.alias && a.description == b.description && a.state == b.state &&
         current_of(a) == current_of(b);
}

int append_import(sd_bus_message* m, const keyring::ImportParameters& parameters) {
  int r = append_bytes(m, parameters.public_key);
  if (r >= 0) r = append_bytes(m, parameters.token);
  const std::uint64_t valid_to = usec(parameters.valid_to);
  return r < 0 ? r : ::sd_bus_message_append_basic(m, SD_BUS_TYPE_UINT64, &valid_to);
}

int append_volumes(sd_bus_message* m, const std::vector<agent::VolumeInfo>& volumes,
                   const CmkId& key) {
  int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "(sso)");
  for (const auto& volume : volumes) {
    const bool uses = std::any_of(volume.keys.begin(), volume.keys.end(),
                                  [&](const agent::VolumeKey& used) { return used.cmk == key; });
    if (r >= 0 && uses)
      r = ::sd_bus_message_append(m, "(sso)", volume.id.str().c_str(),
                                  printable_utf8(volume.name).c_str(),
                                  volume_path(volume.id).c_str());
  }
  return r < 0 ? r : ::sd_bus_message_close_container(m);
}

}  // namespace

Plan change_plan(Context& context, const char* operation, const KeyInfo& key,
                 const Options& options, const CmkChange& change) {
  auto plan = plan_on_key(context, operation, key, options);
  const KeyChange wanted{change, options.flag("force")};
  auto& details = plan.subjects.front();
  if (change.kind == CmkChange::kDestroyVersion)
    details.emplace_back("version", std::to_string(change.version));
  if (change.kind == CmkChange::kScheduleDeletion || change.kind == CmkChange::kSetRotation)
    details.emplace_back("days", std::to_string(change.days));
  if (wanted.force) details.emplace_back("force", "true");
  if (wanted.force) plan.recheck = recheck_of(context, key, true);
  plan.run = [&engine = context.engine, id = key.record.id, wanted](const agent::Caller& caller,
                                                                    const Reply& reply) {
    engine.change_key(id, wanted, caller,
                      [reply](const Result<void>& done) { reply.result(done); });
  };
  return plan;
}

Plan key_plan(std::string operation, const std::string& id, const std::string& alias,
              const Options& options) {
  Plan plan;
  plan.operation = std::move(operation);
  plan.object = id.empty() ? alias : id;
  plan.interactive = options.interactive();
  plan.reason = options.text("reason");
  plan.subjects.push_back({{"cmk", id}, {"alias", alias}, {"operation", plan.operation}});
  return plan;
}

Result<KeyInfo> called_key(Context& context, sd_bus_message* call) {
  const auto id = key_of_path(::sd_bus_message_get_path(call));
  if (!id) return fail(Reason::kNoSuchKey, "the path names no key");
  return context.engine.key(id->str());
}

std::function<Result<void>()> recheck_of(Context& context, const KeyInfo& shown, bool by_force) {
  return [&engine = context.engine, shown, by_force]() -> Result<void> {
    const auto now = engine.key(shown.record.id.str());
    if (!now) return tl::unexpected(now.error());
    const bool more_lose_it = by_force && now->volume_count != shown.volume_count;
    if (more_lose_it || !looks_the_same(now->record, shown.record))
      return fail(Reason::kInProgress, "the key changed since polkit was asked; ask again");
    return {};
  };
}

Plan plan_on_key(Context& context, std::string operation, const KeyInfo& key,
                 const Options& options) {
  auto plan = key_plan(std::move(operation), key.record.id.str(), key.record.alias, options);
  plan.recheck = recheck_of(context, key);
  return plan;
}

Result<Options> key_options(Reader& reader, std::span<const OptionSpec> own) {
  auto options = Options::read(reader, own, true);
  if (!options) return options;
  if (const auto refused = options->refuse_modes(); !refused)
    return tl::unexpected(refused.error());
  return options;
}

Result<Plan> on_enable(Context& context, sd_bus_message* call) {
  return plain_change(context, call, "enable-key", CmkChange::kEnable);
}
Result<Plan> on_disable(Context& context, sd_bus_message* call) {
  return plain_change(context, call, "disable-key", CmkChange::kDisable, kForce);
}
Result<Plan> on_archive(Context& context, sd_bus_message* call) {
  return plain_change(context, call, "archive-key", CmkChange::kArchive, kForce);
}
Result<Plan> on_cancel_archive(Context& context, sd_bus_message* call) {
  return plain_change(context, call, "cancel-key-archive", CmkChange::kCancelArchive);
}
Result<Plan> on_schedule_deletion(Context& context, sd_bus_message* call) {
  return number_change(context, call, "schedule-key-deletion", CmkChange::kScheduleDeletion,
                       &CmkChange::days, kForce);
}
Result<Plan> on_cancel_deletion(Context& context, sd_bus_message* call) {
  return plain_change(context, call, "cancel-key-deletion", CmkChange::kCancelDeletion);
}
Result<Plan> on_rotate(Context& context, sd_bus_message* call) {
  return plain_change(context, call, "rotate-key", CmkChange::kRotate);
}
Result<Plan> on_set_rotation(Context& context, sd_bus_message* call) {
  return number_change(context, call, "set-key-rotation", CmkChange::kSetRotation,
                       &CmkChange::days);
}
Result<Plan> on_destroy_version(Context& context, sd_bus_message* call) {
  return number_change(context, call, "destroy-key-version", CmkChange::kDestroyVersion,
                       &CmkChange::version, kForce);
}
Result<Plan> on_delete_material(Context& context, sd_bus_message* call) {
  return plain_change(context, call, "delete-key-material", CmkChange::kDeleteMaterial, kForce);
}

Result<Plan> on_describe(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto options = key_options(reader, kDescription);
  if (!options) return tl::unexpected(options.error());
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  CmkChange change = CmkChange::kDescribe;
  change.alias = options->maybe_text("alias");
  change.description = options->maybe_text("description");
  return change_plan(context, "describe-key", *key, *options, change);
}

Result<Plan> on_set_tags(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto map = reader.text_map(keyring::kTagsMax);
  if (!map) return tl::unexpected(map.error());
  const auto options = key_options(reader, {});
  if (!options) return tl::unexpected(options.error());
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  std::vector<keyring::KeyTag> tags;
  for (const auto& [name, value] : *map) tags.push_back({name, value});
  if (const auto good = keyring::require_tags(tags); !good) return tl::unexpected(good.error());
  auto plan = plan_on_key(context, "tag-key", *key, *options);
  plan.run = [&engine = context.engine, id = key->record.id, tags = std::move(tags)](
                 const agent::Caller& caller, const Reply& reply) {
    engine.set_key_tags(id, tags, caller,
                        [reply](const Result<void>& done) { reply.result(done); });
  };
  return plan;
}

Result<Plan> on_prepare_import(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto options = key_options(reader, kWrapping);
  if (!options) return tl::unexpected(options.error());
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  const std::string usual =
      keyring::is_symmetric(key->record.algorithm) ? "rsa-oaep-sha256" : "rsa-aes-key-wrap-sha256";
  const auto wrapping = import_wrapping_by_name(options->maybe_text("wrapping").value_or(usual));
  if (!wrapping) return tl::unexpected(wrapping.error());
  auto plan = plan_on_key(context, "prepare-key-import", *key, *options);
  plan.run = [&engine = context.engine, id = key->record.id, wrapping = *wrapping](
                 const agent::Caller& caller, const Reply& reply) {
    engine.prepare_import(id, wrapping, caller,
                          [reply](const Result<keyring::ImportParameters>& prepared) {
                            if (!prepared) return reply.error(prepared.error());
                            reply.fill([&](auto* m) { return append_import(m, *prepared); });
                          });
  };
  return plan;
}

Result<Plan> on_import_material(Context& context, sd_bus_message* call) {
  Reader reader(call);
  auto token = reader.bytes(kImportTokenBytesMax);
  if (!token) return tl::unexpected(token.error());
  const auto fd = reader.descriptor();
  if (!fd) return tl::unexpected(fd.error());
  const auto options = key_options(reader, kValidTo);
  if (!options) return tl::unexpected(options.error());
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  const auto valid_to = time_option(*options, "valid-to-usec");
  if (!valid_to) return tl::unexpected(valid_to.error());
  // Wrapped, it is no secret any more; read now, since the descriptor is the message's.
  const auto wrapped = read_sealed_secret(*fd, keyring::kImportWrappedBytesMax);
  if (!wrapped) return tl::unexpected(wrapped.error());
  keyring::ImportMaterial material;
  material.token = std::move(*token);
  material.wrapped.assign(wrapped->reveal().begin(), wrapped->reveal().end());
  material.valid_to = *valid_to;
  auto plan = plan_on_key(context, "import-key", *key, *options);
  plan.run = [&engine = context.engine, id = key->record.id, material = std::move(material)](
                 const agent::Caller& caller, const Reply& reply) {
    engine.import_material(id, material, caller,
                           [reply](const Result<void>& done) { reply.result(done); });
  };
  return plan;
}

Result<Plan> on_list_key_volumes(Context& context, sd_bus_message* call) {
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  auto plan = key_plan("list-key-volumes", key->record.id.str(), key->record.alias, {});
  plan.run = [&engine = context.engine, id = key->record.id](const agent::Caller&,
                                                             const Reply& reply) {
    reply.fill([&](auto* m) { return append_volumes(m, engine.volumes(), id); });
  };
  return plan;
}

}  // namespace coffer::dbus
