// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include "dbus/dispatcher.h"

namespace coffer::dbus {

// org.coffer.Agent1.Keyring on the root object, and org.coffer.Agent1.Key on every key of the
// engine. `context` outlives the bus.
int export_keyring(sd_bus* bus, Context& context);
int export_keys(sd_bus* bus, Context& context);

}  // namespace coffer::dbus
