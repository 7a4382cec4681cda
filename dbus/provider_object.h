// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include "dbus/dispatcher.h"

namespace coffer::dbus {

// org.coffer.Agent1.KeyProvider on every provider of the engine. `context` outlives the bus.
int export_providers(sd_bus* bus, Context& context);

}  // namespace coffer::dbus
