// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/cmk_record.h"
#include "dbus/key_object.h"
#include "dbus/key_plans.h"
#include "dbus/key_words.h"
#include "dbus/names.h"
#include "dbus/paths.h"
#include "dbus/properties.h"

namespace coffer::dbus {
namespace {

using agent::KeyInfo;

int append_row(sd_bus_message* m, const KeyInfo& key) {
  const auto& record = key.record;
  return ::sd_bus_message_append(
      m, "(sssuo)", record.id.str().c_str(), printable_utf8(record.alias).c_str(),
      std::string(key_state_name(record.state)).c_str(),
      record.versions.empty() ? 0 : record.current().number, key_path(record.id).c_str());
}

Result<Plan> on_list_keys(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto filter = Options::read(reader, kKeyFilter, false);
  if (!filter) return tl::unexpected(filter.error());
  auto query = key_query(*filter);
  if (!query) return tl::unexpected(query.error());
  auto plan = key_plan("list-keys", "", "", *filter);
  plan.run = [&engine = context.engine, query = std::move(*query)](const agent::Caller&,
                                                                   const Reply& reply) {
    engine.list_keys(query, [reply](const Result<std::vector<KeyInfo>>& keys) {
      if (!keys) return reply.error(keys.error());
      reply.fill([&](sd_bus_message* m) {
        int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "(sssuo)");
        for (const auto& key : *keys) {
          if (r >= 0) r = append_row(m, key);
        }
        return r < 0 ? r : ::sd_bus_message_close_container(m);
      });
    });
  };
  return plan;
}

Result<Plan> on_count_keys(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto filter = Options::read(reader, kKeyFilter, false);
  if (!filter) return tl::unexpected(filter.error());
  auto query = key_query(*filter);
  if (!query) return tl::unexpected(query.error());
  auto plan = key_plan("count-keys", "", "", *filter);
  plan.run = [&engine = context.engine, wanted = std::move(query->filter)](const agent::Caller&,
                                                                           const Reply& reply) {
    engine.count_keys(wanted, [reply](const Result<std::uint64_t>& count) {
      if (!count) return reply.error(count.error());
      reply.fill([&](sd_bus_message* m) { return append_value(m, *count); });
    });
  };
  return plan;
}

Result<Plan> on_get_key(Context& context, sd_bus_message* call) {
  const auto spec = Reader(call).text();
  if (!spec) return tl::unexpected(spec.error());
  const auto key = context.engine.key(*spec);
  if (!key) return tl::unexpected(key.error());
  auto plan = key_plan("get-key", key->record.id.str(), key->record.alias, {});
  plan.run = [path = key_path(key->record.id)](const agent::Caller&, const Reply& reply) {
    reply.path(path);
  };
  return plan;
}

Result<Plan> on_create_key(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto alias = reader.text();
  if (!alias) return tl::unexpected(alias.error());
  const auto options = key_options(reader, kCreateKeyOptions);
  if (!options) return tl::unexpected(options.error());
  auto parameters = create_parameters(*alias, *options);
  if (!parameters) return tl::unexpected(parameters.error());
  auto plan = key_plan("create-key", "", *alias, *options);
  plan.run = [&engine = context.engine, parameters = std::move(*parameters)](
                 const agent::Caller& caller, const Reply& reply) {
    engine.create_key(parameters, caller, [reply](const Result<KeyInfo>& key) {
      if (!key) return reply.error(key.error());
      reply.path(key_path(key->record.id));
    });
  };
  return plan;
}

constexpr auto kAnyone = SD_BUS_VTABLE_UNPRIVILEGED;  // The dispatcher decides.
constexpr auto kSecret = kAnyone | SD_BUS_VTABLE_SENSITIVE;

const sd_bus_vtable kVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("ListKeys", SD_BUS_ARGS("a{sv}", filter),
                            SD_BUS_RESULT("a(sssuo)", keys), &on_call<&on_list_keys>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("CountKeys", SD_BUS_ARGS("a{sv}", filter), SD_BUS_RESULT("t", count),
                            &on_call<&on_count_keys>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("GetKey", SD_BUS_ARGS("s", spec), SD_BUS_RESULT("o", key),
                            &on_call<&on_get_key>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("CreateKey", SD_BUS_ARGS("s", alias, "a{sv}", options),
                            SD_BUS_RESULT("o", key), &on_call<&on_create_key>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("ChangeMany", SD_BUS_ARGS("s", change, "ao", keys, "a{sv}", options),
                            SD_BUS_RESULT("a(oss)", results), &on_call<&on_change_many>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS(
        "Decrypt", SD_BUS_ARGS("ay", ciphertext, "a{ss}", context, "a{sv}", options),
        SD_BUS_RESULT("h", plaintext, "o", key), &on_call<&on_decrypt>, kSecret),
    SD_BUS_METHOD_WITH_ARGS("ReEncrypt",
                            SD_BUS_ARGS("ay", ciphertext, "a{ss}", context, "s", to, "a{ss}",
                                        context_then, "a{sv}", options),
                            SD_BUS_RESULT("ay", ciphertext, "b", changed), &on_call<&on_reencrypt>,
                            kAnyone),
    SD_BUS_METHOD_WITH_ARGS("GenerateRandom", SD_BUS_ARGS("u", size, "a{sv}", options),
                            SD_BUS_RESULT("h", bytes), &on_call<&on_generate_random>, kSecret),
    SD_BUS_VTABLE_END};

}  // namespace

int export_keyring(sd_bus* bus, Context& context) {
  return ::sd_bus_add_object_vtable(bus, nullptr, kRootPath, kKeyringInterface, kVtable, &context);
}

}  // namespace coffer::dbus
