#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A GDBus ObjectManager client: lists the volumes, unlocks the one named, follows it until it is
open, and sees the job come, complete and its object know the result.

    follow_unlock.py ADDRESS VOLUME-NAME
"""
import sys

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME = "org.coffer.Agent1"
ROOT = "/org/coffer/Agent1"
VOLUME = NAME + ".Volume"
FLAGS = (Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
         | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION)


def main(address, wanted):
    bus = Gio.DBusConnection.new_for_address_sync(address, FLAGS, None, None)
    manager = Gio.DBusObjectManagerClient.new_sync(
        bus, Gio.DBusObjectManagerClientFlags.NONE, NAME, ROOT, None, None, None)
    loop = GLib.MainLoop()
    seen = {"states": [], "jobs": [], "completed": None}

    def property_of(proxy, name):
        return proxy.get_cached_property(name).unpack()

    volumes = {}
    for item in manager.get_objects():
        proxy = item.get_interface(VOLUME)
        if proxy is not None:
            volumes[property_of(proxy, "Name")] = proxy
    for name in sorted(volumes):
        print("volume", name, property_of(volumes[name], "State"))
    volume = volumes[wanted]

    def maybe_done():
        if seen["completed"] is not None and seen["states"][-1:] == ["unlocked"]:
            loop.quit()

    def on_changed(_proxy, changed, _invalidated):
        if "State" in changed.keys():
            seen["states"].append(changed["State"])
            maybe_done()

    def on_added(_manager, item):
        if item.get_interface(NAME + ".Job") is not None:
            seen["jobs"].append(item.get_object_path())

    def on_signal(_manager, item, _proxy, _sender, signal, parameters):
        if signal == "Completed" and item.get_object_path() in seen["jobs"]:
            seen["completed"] = parameters.unpack()
            maybe_done()

    volume.connect("g-properties-changed", on_changed)
    manager.connect("object-added", on_added)
    manager.connect("interface-proxy-signal", on_signal)

    job = volume.call_sync("Unlock", GLib.Variant("(a{sv})", ({},)),
                           Gio.DBusCallFlags.NONE, 20000, None).unpack()[0]
    GLib.timeout_add_seconds(20, loop.quit)
    loop.run()
    print("states", *seen["states"])
    print("job", "announced" if job in seen["jobs"] else "missed", seen["completed"])
    return 0 if seen["states"][-1:] == ["unlocked"] and seen["completed"][0] else 1


sys.exit(main(*sys.argv[1:]))
