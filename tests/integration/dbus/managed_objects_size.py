#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prints "<volumes> <bytes>" of one GetManagedObjects answer, as it travels."""
import sys

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio  # noqa: E402

FLAGS = (Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
         | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION)
bus = Gio.DBusConnection.new_for_address_sync(sys.argv[1], FLAGS, None, None)
call = Gio.DBusMessage.new_method_call(
    "org.coffer.Agent1", "/org/coffer/Agent1",
    "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
reply, _ = bus.send_message_with_reply_sync(call, Gio.DBusSendMessageFlags.NONE, 20000, None)
objects = reply.get_body().unpack()[0]
volumes = sum(path.startswith("/org/coffer/Agent1/volume/") for path in objects)
print(volumes, len(reply.to_blob(Gio.DBusCapabilityFlags.NONE)))
