// SPDX-License-Identifier: Apache-2.0
#include "dbus/key_object.h"

#include "core/keyring/cmk_record.h"
#include "dbus/names.h"
#include "dbus/paths.h"
#include "dbus/properties.h"

namespace coffer::dbus {
namespace {

using agent::KeyInfo;

using KeyWork = void (agent::Engine::*)(const CmkId&, const agent::Caller&,
                                        agent::Engine::Done<void>);

Result<Plan> of_this_key(Context& context, sd_bus_message* call, const char* operation,
                         KeyWork work) {
  const auto id = key_of_path(::sd_bus_message_get_path(call));
  if (!id) return fail(Reason::kNoSuchKey, "the path names no key");
  Reader reader(call);
  const auto options = Options::read(reader, {}, true);
  if (!options) return tl::unexpected(options.error());
  if (const auto refused = options->refuse_modes(); !refused)
    return tl::unexpected(refused.error());
  const auto key = context.engine.key(id->str());
  if (!key) return tl::unexpected(key.error());
  auto plan = key_plan(operation, id->str(), key->record.alias, *options);
  plan.recheck = [&engine = context.engine, id = *id,
                  revision = key->record.revision]() -> Result<void> {
    const auto now = engine.key(id.str());
    if (!now) return tl::unexpected(now.error());
    if (now->record.revision != revision)
      return fail(Reason::kInProgress, "the key changed while polkit was asked; ask again");
    return {};
  };
  plan.run = [&engine = context.engine, id = *id, work](const agent::Caller& caller,
                                                        const Reply& reply) {
    (engine.*work)(id, caller, [reply](const Result<void>& done) { reply.result(done); });
  };
  return plan;
}

Result<Plan> on_enable(Context& context, sd_bus_message* call) {
  return of_this_key(context, call, "enable-key", &agent::Engine::enable_key);
}
Result<Plan> on_disable(Context& context, sd_bus_message* call) {
  return of_this_key(context, call, "disable-key", &agent::Engine::disable_key);
}
Result<Plan> on_rotate(Context& context, sd_bus_message* call) {
  return of_this_key(context, call, "rotate-key", &agent::Engine::rotate_key);
}

std::string_view version_state_name(keyring::VersionState state) {
  switch (state) {
    case keyring::VersionState::kCurrent:
      return "current";
    case keyring::VersionState::kDecryptOnly:
      return "decrypt-only";
    case keyring::VersionState::kDestroyed:
      return "destroyed";
  }
  return "destroyed";
}

int append_versions(sd_bus_message* m, Context&, const KeyInfo& key) {
  int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "(ust)");
  for (const auto& version : key.record.versions) {
    if (r >= 0)
      r = ::sd_bus_message_append(m, "(ust)", version.number,
                                  std::string(version_state_name(version.state)).c_str(),
                                  usec(version.created));
  }
  return r < 0 ? r : ::sd_bus_message_close_container(m);
}

std::uint32_t current_version(const KeyInfo& key) {
  return key.record.versions.empty() ? 0 : key.record.current().number;
}

int find_key(sd_bus*, const char* path, const char*, void* userdata, void** found,
             sd_bus_error*) noexcept try {
  auto* context = static_cast<Context*>(userdata);
  const auto id = key_of_path(path);
  if (!id) return 0;
  const auto key = context->engine.key(id->str());
  if (!key) return 0;
  context->key = *key;
  *found = context;
  return 1;
} catch (const std::exception&) {
  return -ENOMEM;
}

int list_keys(sd_bus*, const char*, void* userdata, char*** nodes, sd_bus_error*) noexcept try {
  std::vector<std::string> paths;
  for (const auto& key : static_cast<Context*>(userdata)->engine.keys())
    paths.push_back(key_path(key.record.id));
  return give_nodes(paths, nodes);
} catch (const std::exception&) {
  return -ENOMEM;
}

template <auto kGet>
constexpr sd_bus_property_get_t kGetter = &get_property<&Context::key, kGet>;

constexpr auto kChanges = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
constexpr auto kConst = SD_BUS_VTABLE_PROPERTY_CONST;
constexpr auto kAnyone = SD_BUS_VTABLE_UNPRIVILEGED;  // The dispatcher decides.

const sd_bus_vtable kVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Enable", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_enable>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Disable", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_disable>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Rotate", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_rotate>, kAnyone),
    SD_BUS_PROPERTY("Id", "s", kGetter<[](const KeyInfo& k) { return k.record.id.str(); }>, 0,
                    kConst),
    SD_BUS_PROPERTY("Alias", "s",
                    kGetter<[](const KeyInfo& k) -> std::string_view { return k.record.alias; }>, 0,
                    kChanges),
    SD_BUS_PROPERTY(
        "Description", "s",
        kGetter<[](const KeyInfo& k) -> std::string_view { return k.record.description; }>, 0,
        kChanges),
    SD_BUS_PROPERTY("State", "s",
                    kGetter<[](const KeyInfo& k) { return key_state_name(k.record.state); }>, 0,
                    kChanges),
    SD_BUS_PROPERTY("Version", "u", kGetter<&current_version>, 0, kChanges),
    SD_BUS_PROPERTY("Versions", "a(ust)", (&get_structure<&Context::key, &append_versions>), 0,
                    kChanges),
    SD_BUS_PROPERTY("Protection", "s",
                    kGetter<[](const KeyInfo& k) { return protection_name(k.record.protection); }>,
                    0, kChanges),
    SD_BUS_PROPERTY("TokenKind", "s",
                    kGetter<[](const KeyInfo& k) { return token_kind_name(k.record.token_kind); }>,
                    0, kChanges),
    SD_BUS_PROPERTY("CreatedUSec", "t", kGetter<[](const KeyInfo& k) { return k.record.created; }>,
                    0, kConst),
    SD_BUS_PROPERTY("NVolumes", "u", kGetter<&KeyInfo::volume_count>, 0, kChanges),
    SD_BUS_VTABLE_END};

}  // namespace

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

int export_keys(sd_bus* bus, Context& context) {
  const int r = ::sd_bus_add_fallback_vtable(bus, nullptr, kKeyPrefix, kKeyInterface, kVtable,
                                             &find_key, &context);
  if (r < 0) return r;
  return ::sd_bus_add_node_enumerator(bus, nullptr, kKeyPrefix, &list_keys, &context);
}

}  // namespace coffer::dbus
