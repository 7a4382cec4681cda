// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include "dbus/dispatcher.h"

namespace coffer::dbus {

// The part of a plan that all methods on keys share. `id` and `alias` may be "" for a new key.
Plan key_plan(std::string operation, const std::string& id, const std::string& alias,
              const Options& options);

// The key of the object that is called, as polkit will be shown it. kNoSuchKey.
Result<agent::KeyInfo> called_key(Context& context, sd_bus_message* call);

// Plan::recheck for `shown`: kInProgress when the key looks otherwise by now. By force, also when
// another number of volumes would lose it.
std::function<Result<void>()> recheck_of(Context& context, const agent::KeyInfo& shown,
                                         bool by_force = false);

// A plan about `key`, which is refused when the key changed while polkit was asked.
Plan plan_on_key(Context& context, std::string operation, const agent::KeyInfo& key,
                 const Options& options);

// The same of one that `change` makes of it; `options` may have force. Polkit is shown what it is.
Plan change_plan(Context& context, const char* operation, const agent::KeyInfo& key,
                 const Options& options, const keyring::CmkChange& change);

// The options at the end of a call on a key: `own`, and the standard ones without the modes that no
// method on keys has.
Result<Options> key_options(Reader& reader, std::span<const OptionSpec> own);

// The methods of org.coffer.Agent1.Key. Their life: key_changes.cc.
Result<Plan> on_enable(Context& context, sd_bus_message* call);
Result<Plan> on_disable(Context& context, sd_bus_message* call);
Result<Plan> on_archive(Context& context, sd_bus_message* call);
Result<Plan> on_cancel_archive(Context& context, sd_bus_message* call);
Result<Plan> on_schedule_deletion(Context& context, sd_bus_message* call);
Result<Plan> on_cancel_deletion(Context& context, sd_bus_message* call);
Result<Plan> on_rotate(Context& context, sd_bus_message* call);
Result<Plan> on_set_rotation(Context& context, sd_bus_message* call);
Result<Plan> on_describe(Context& context, sd_bus_message* call);
Result<Plan> on_set_tags(Context& context, sd_bus_message* call);
Result<Plan> on_rewrap_all(Context& context, sd_bus_message* call);
Result<Plan> on_destroy_version(Context& context, sd_bus_message* call);
Result<Plan> on_prepare_import(Context& context, sd_bus_message* call);
Result<Plan> on_import_material(Context& context, sd_bus_message* call);
Result<Plan> on_delete_material(Context& context, sd_bus_message* call);
Result<Plan> on_list_key_volumes(Context& context, sd_bus_message* call);

// One change of many keys, of org.coffer.Agent1.Keyring: key_batches.cc.
Result<Plan> on_change_many(Context& context, sd_bus_message* call);

// What uses them beside volumes: key_bindings.cc.
Result<Plan> on_bind(Context& context, sd_bus_message* call);
Result<Plan> on_unbind(Context& context, sd_bus_message* call);
Result<Plan> on_list_bindings(Context& context, sd_bus_message* call);

// What they are used for: key_uses.cc. The last three are of org.coffer.Agent1.Keyring: the
// ciphertext says which key it is about, and random bytes are about none.
Result<Plan> on_encrypt(Context& context, sd_bus_message* call);
Result<Plan> on_generate_data_key(Context& context, sd_bus_message* call);
Result<Plan> on_sign(Context& context, sd_bus_message* call);
Result<Plan> on_decrypt_asymmetric(Context& context, sd_bus_message* call);
Result<Plan> on_decrypt(Context& context, sd_bus_message* call);
Result<Plan> on_reencrypt(Context& context, sd_bus_message* call);
Result<Plan> on_generate_random(Context& context, sd_bus_message* call);

}  // namespace coffer::dbus
