// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include "dbus/dispatcher.h"

namespace coffer::dbus {

// org.coffer.Agent1.Manager on the root object. `context` outlives the bus.
int export_manager(sd_bus* bus, Context& context);

}  // namespace coffer::dbus
