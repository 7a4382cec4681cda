// SPDX-License-Identifier: Apache-2.0
#include "dbus/key_object.h"

#include "core/keyring/cmk_record.h"
#include "dbus/key_plans.h"
#include "dbus/key_words.h"
#include "dbus/names.h"
#include "dbus/paths.h"
#include "dbus/properties.h"

namespace coffer::dbus {
namespace {

using agent::KeyInfo;

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

int append_uses(sd_bus_message* m, Context&, const KeyInfo& key) {
  int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "(ut)");
  for (const auto& version : key.record.versions) {
    if (r >= 0) r = ::sd_bus_message_append(m, "(ut)", version.number, version.wraps_leased);
  }
  return r < 0 ? r : ::sd_bus_message_close_container(m);
}

int append_tags(sd_bus_message* m, Context&, const KeyInfo& key) {
  int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{ss}");
  for (const auto& tag : key.tags) {
    if (r >= 0) r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_DICT_ENTRY, "ss");
    if (r >= 0) r = append_text(m, tag.name);
    if (r >= 0) r = append_text(m, tag.value);
    if (r >= 0) r = ::sd_bus_message_close_container(m);
  }
  return r < 0 ? r : ::sd_bus_message_close_container(m);
}

const Bytes& public_key(const KeyInfo& key) {
  static const Bytes kNone;
  return key.record.versions.empty() ? kNone : key.record.current().public_key;
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
constexpr auto kSecret = kAnyone | SD_BUS_VTABLE_SENSITIVE;

const sd_bus_vtable kVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Enable", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_enable>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Disable", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_disable>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Archive", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_archive>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("CancelArchive", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_cancel_archive>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("ScheduleDeletion", SD_BUS_ARGS("u", days, "a{sv}", options),
                            SD_BUS_NO_RESULT, &on_call<&on_schedule_deletion>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("CancelDeletion", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_cancel_deletion>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Rotate", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_rotate>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("SetRotation", SD_BUS_ARGS("u", days, "a{sv}", options),
                            SD_BUS_NO_RESULT, &on_call<&on_set_rotation>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Describe", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_describe>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("SetTags", SD_BUS_ARGS("a{ss}", tags, "a{sv}", options),
                            SD_BUS_NO_RESULT, &on_call<&on_set_tags>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("RewrapAll", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                            &on_call<&on_rewrap_all>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("DestroyVersion", SD_BUS_ARGS("u", version, "a{sv}", options),
                            SD_BUS_NO_RESULT, &on_call<&on_destroy_version>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("PrepareImport", SD_BUS_ARGS("a{sv}", options),
                            SD_BUS_RESULT("ay", public_key, "ay", token, "t", valid_to_usec),
                            &on_call<&on_prepare_import>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("ImportMaterial",
                            SD_BUS_ARGS("ay", token, "h", wrapped, "a{sv}", options),
                            SD_BUS_NO_RESULT, &on_call<&on_import_material>, kSecret),
    SD_BUS_METHOD_WITH_ARGS("DeleteMaterial", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_delete_material>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("ListVolumes", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sso)", volumes),
                            &on_call<&on_list_key_volumes>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Bind", SD_BUS_ARGS("s", resource, "a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_bind>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Unbind", SD_BUS_ARGS("s", resource, "a{sv}", options),
                            SD_BUS_NO_RESULT, &on_call<&on_unbind>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("ListBindings", SD_BUS_ARGS("a{sv}", page),
                            SD_BUS_RESULT("as", resources), &on_call<&on_list_bindings>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Encrypt",
                            SD_BUS_ARGS("h", plaintext, "a{ss}", context, "a{sv}", options),
                            SD_BUS_RESULT("ay", ciphertext), &on_call<&on_encrypt>, kSecret),
    SD_BUS_METHOD_WITH_ARGS(
        "GenerateDataKey", SD_BUS_ARGS("u", size, "a{ss}", context, "a{sv}", options),
        SD_BUS_RESULT("h", plaintext, "ay", ciphertext), &on_call<&on_generate_data_key>, kSecret),
    SD_BUS_METHOD_WITH_ARGS("Sign", SD_BUS_ARGS("ay", digest, "a{sv}", options),
                            SD_BUS_RESULT("ay", signature), &on_call<&on_sign>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("DecryptAsymmetric", SD_BUS_ARGS("ay", ciphertext, "a{sv}", options),
                            SD_BUS_RESULT("h", plaintext), &on_call<&on_decrypt_asymmetric>,
                            kSecret),
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
    SD_BUS_PROPERTY("Owner", "s",
                    kGetter<[](const KeyInfo& k) { return key_owner_name(k.record.owner); }>, 0,
                    kConst),
    SD_BUS_PROPERTY("Origin", "s",
                    kGetter<[](const KeyInfo& k) { return key_origin_name(k.record.origin); }>, 0,
                    kConst),
    SD_BUS_PROPERTY(
        "Algorithm", "s",
        kGetter<[](const KeyInfo& k) { return key_algorithm_name(k.record.algorithm); }>, 0,
        kConst),
    SD_BUS_PROPERTY("Usage", "s",
                    kGetter<[](const KeyInfo& k) { return key_usage_name(k.record.usage); }>, 0,
                    kConst),
    SD_BUS_PROPERTY("Version", "u", kGetter<&current_version>, 0, kChanges),
    SD_BUS_PROPERTY("Versions", "a(ust)", (&get_structure<&Context::key, &append_versions>), 0,
                    kChanges),
    SD_BUS_PROPERTY("Uses", "a(ut)", (&get_structure<&Context::key, &append_uses>), 0, kChanges),
    SD_BUS_PROPERTY("Protection", "s",
                    kGetter<[](const KeyInfo& k) { return protection_name(k.record.protection); }>,
                    0, kChanges),
    SD_BUS_PROPERTY("TokenKind", "s",
                    kGetter<[](const KeyInfo& k) { return token_kind_name(k.record.token_kind); }>,
                    0, kChanges),
    SD_BUS_PROPERTY("CreatedUSec", "t", kGetter<[](const KeyInfo& k) { return k.record.created; }>,
                    0, kConst),
    SD_BUS_PROPERTY("ChangedUSec", "t", kGetter<[](const KeyInfo& k) { return k.record.changed; }>,
                    0, kChanges),
    SD_BUS_PROPERTY("RotationDays", "u",
                    kGetter<[](const KeyInfo& k) { return k.record.rotation_days; }>, 0, kChanges),
    SD_BUS_PROPERTY("NextRotationUSec", "t",
                    kGetter<[](const KeyInfo& k) { return k.record.next_rotation; }>, 0, kChanges),
    SD_BUS_PROPERTY("DeletionUSec", "t",
                    kGetter<[](const KeyInfo& k) { return k.record.delete_at; }>, 0, kChanges),
    SD_BUS_PROPERTY("MaterialValidToUSec", "t",
                    kGetter<[](const KeyInfo& k) { return k.record.material_valid_to; }>, 0,
                    kChanges),
    SD_BUS_PROPERTY("PublicKey", "ay", kGetter<&public_key>, 0, kChanges),
    SD_BUS_PROPERTY("Tags", "a{ss}", (&get_structure<&Context::key, &append_tags>), 0, kChanges),
    SD_BUS_PROPERTY("NVolumes", "u", kGetter<&KeyInfo::volume_count>, 0, kChanges),
    SD_BUS_VTABLE_END};

}  // namespace

int export_keys(sd_bus* bus, Context& context) {
  const int r = ::sd_bus_add_fallback_vtable(bus, nullptr, kKeyPrefix, kKeyInterface, kVtable,
                                             &find_key, &context);
  if (r < 0) return r;
  return ::sd_bus_add_node_enumerator(bus, nullptr, kKeyPrefix, &list_keys, &context);
}

}  // namespace coffer::dbus
