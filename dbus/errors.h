// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include "core/base/result.h"

namespace coffer::dbus {

// The name that says: polkit would allow it if the caller could be asked for a password.
inline constexpr const char* kInteractiveAuthorizationRequired =
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";

// Makes every error of org.coffer.Agent1 known to sd-bus of this process, with the errno that fits
// its code. Once per process; further calls do nothing.
void register_errors();

// Fills `out` for a handler to return: gives a negative errno.
int reply_error(sd_bus_error* out, const Error& error);

// Sends the error as the answer to `call`. Best effort: the caller may have left.
void send_error(sd_bus_message* call, const Error& error);

}  // namespace coffer::dbus
