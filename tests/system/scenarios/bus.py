# SPDX-License-Identifier: Apache-2.0
"""The API on the system bus, as operators and desktop programs use it."""

import json
from pathlib import Path
from xml.etree import ElementTree

from coffer_host import BUS, ROOT
from scenario import VOLUMES, scenario

INTERFACES = Path(__file__).resolve().parents[3] / "dbus"


@scenario(host=True)
def busctl_shows_everything(s):
    """busctl lists the tree, introspects it, reads a property, and hears of an unlock by signals."""
    host = s.host()
    m = host.machine
    tree = m.must(f"busctl tree --list {BUS}").split()
    assert len([p for p in tree if p.startswith(f"{ROOT}/volume/")]) == len(VOLUMES), tree
    path = host.volume_path("data1")
    assert "unlocked" in m.must(f"busctl get-property {BUS} {path} {BUS}.Volume State")
    host.unmount(["data1"])
    host.listen(BUS, "/run/heard")
    host.lock(["data1"])
    job = host.call("Manager", "UnlockMany", "asa{sv} 1 data1 0")
    host.wait_job(job)
    heard = m.wait_until("grep -a StateChanged /run/heard | grep -a '\"unlocked\"'")[0]
    assert "JobNew" in m.must("cat /run/heard; kill $(cat /run/heard.pid)"), heard
    key, provider = (next(iter(host.objects(interface))) for interface in ("Key", "KeyProvider"))
    for where, interface in [(ROOT, "Manager"), (ROOT, "Keyring"), (ROOT, "Audit"), (path, "Volume"),
                             (job, "Job"), (key, "Key"), (provider, "KeyProvider")]:
        assert_introspected(m, where, f"{BUS}.{interface}")


def assert_introspected(m, path, interface):
    """`busctl introspect` shows every member that the file of the interface has."""
    description = ElementTree.parse(INTERFACES / f"{interface}.xml").find("interface")
    wanted = {item.get("name") for item in description if item.tag in ("method", "signal", "property")}
    shown = m.must(f"busctl introspect {BUS} {path} {interface}").splitlines()
    missing = wanted - {line.split()[0].removeprefix(".") for line in shown}
    assert wanted and not missing, (path, missing, shown)


# The agent is stopped until the bus refuses a call: none is answered before all have been made.
MANY_CALLS = """
import json, subprocess, gi
gi.require_version('Gio', '2.0')
from gi.repository import Gio, GLib
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
loop, left, outcome = GLib.MainLoop(), [129], {}
def send(signal):
    subprocess.run(['systemctl', 'kill', '--signal=' + signal, 'cofferd.service'], check=True)
def done(source, result):
    try:
        source.call_finish(result); word = 'answered'
    except GLib.Error as error:
        word = Gio.DBusError.get_remote_error(error) or str(error)
        send('CONT')
    outcome[word] = outcome.get(word, 0) + 1
    left[0] -= 1
    if not left[0]: loop.quit()
send('STOP')
for _ in range(129):
    bus.call('org.coffer.Agent1', '/org/coffer/Agent1', 'org.coffer.Agent1.Manager', 'ListVolumes',
             GLib.Variant('(a{sv})', ({},)), None, 0, 60000, None, done)
GLib.timeout_add_seconds(90, loop.quit)
loop.run()
send('CONT')
print(json.dumps(outcome))
"""


@scenario(host=True)
def many_concurrent_calls_are_all_answered(s):
    """129 calls at once from one connection: 128 are answered, one is refused by the bus; none hangs."""
    host = s.host()
    host.machine.push(MANY_CALLS, "/run/many.py")
    outcome = json.loads(host.machine.must("python3 /run/many.py", timeout=180))
    s.log(f"{outcome}")
    assert outcome == {"answered": 128, "org.freedesktop.DBus.Error.LimitsExceeded": 1}, outcome


VANISHING_CALLER = """
import os, subprocess, gi
gi.require_version('Gio', '2.0')
from gi.repository import Gio, GLib
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
subprocess.run(['systemctl', 'kill', '--signal=STOP', 'coffer-vault@local.service'], check=True)
def ask(path, interface, method, arguments):
    return bus.call_sync('org.coffer.Agent1', path, interface, method, arguments, None, 0, 30000, None).unpack()[0]
job = ask('/org/coffer/Agent1', 'org.coffer.Agent1.Manager', 'UnlockAll', GLib.Variant('(a{sv})', ({},)))
state = GLib.Variant('(ss)', ('org.coffer.Agent1.Job', 'State'))
while ask(job, 'org.freedesktop.DBus.Properties', 'Get', state) == 'queued': pass
print(job, ask(job, 'org.freedesktop.DBus.Properties', 'Get', state), flush=True)
os.kill(os.getpid(), 9)
"""


@scenario(host=True)
def caller_that_vanishes_does_not_stop_a_job(s):
    """A client is killed while the unlock of 8 that it asked for runs; the job goes on and completes."""
    host = s.host()
    host.unmount(VOLUMES)
    host.forget_mounts()
    host.machine.push(VANISHING_CALLER, "/run/vanish.py")
    items = unlock_of_vanishing_caller(s, host)
    assert [item.result for item in items] == ["done"] * len(VOLUMES), items
    assert set(host.states().values()) == {"unlocked"}, host.states()


def unlock_of_vanishing_caller(s, host, attempts=5):
    """The Items of an unlock whose caller was killed while it ran."""
    for _ in range(attempts):
        host.lock(VOLUMES)
        # Without its keys the job cannot end before the client does. But cofferd waits for them only some 4 s:
        # where the client took longer it is done again.
        done = host.machine.run("python3 /run/vanish.py; status=$?; "
                                "systemctl kill --signal=CONT coffer-vault@local.service; exit $status")
        assert done.status == 137, done
        job, state = done.output.split()[:2]
        items = host.wait_job(job, must=False)
        if not any(item.error.endswith("HsmTimeout") for item in items):
            assert state == "running", done
            return items
        s.log("the keys came too late; once more")
        host.wait_token()
        host.unlock(VOLUMES)
    raise AssertionError(f"the keys came too late {attempts} times")


RULE = """
polkit.addRule(function(action, subject) {
  if (action.id == "org.coffer.Agent1.unlock" && subject.user == "operator" &&
      action.lookup("volume.name") == "data1") return polkit.Result.YES;
});
"""


@scenario(host=True)
def other_users_need_a_rule(s):
    """A user who is not root is refused, and allowed by a polkit rule that names one volume."""
    host = s.host()
    m = host.machine
    host.unmount(["data1", "data2"])
    host.lock(["data1", "data2"])
    m.must("useradd --create-home --gid operator operator")
    unlock = (f"setpriv --reuid operator --regid operator --init-groups busctl call {BUS} {ROOT} "
              f"{BUS}.Manager UnlockMany 'asa{{sv}}' 1 %s 0")
    refused = m.run(unlock % "data1")
    assert refused.status != 0 and "access denied" in refused.output.lower(), refused
    m.push(RULE, "/etc/polkit-1/rules.d/10-operator.rules")
    m.must("systemctl try-restart polkit.service")
    m.wait_until(unlock % "data1")
    host.wait_states({"data1": "unlocked"})
    still = m.run(unlock % "data2")
    assert still.status != 0 and "access denied" in still.output.lower(), still
    assert host.states()["data2"] == "locked"


GDBUS_CLIENT = """
import subprocess, gi
gi.require_version('Gio', '2.0')
from gi.repository import Gio, GLib
manager = Gio.DBusObjectManagerClient.new_for_bus_sync(
    Gio.BusType.SYSTEM, 0, 'org.coffer.Agent1', '/org/coffer/Agent1', None, None, None)
volumes = [o.get_interface('org.coffer.Agent1.Volume') for o in manager.get_objects()]
volumes = {v.get_cached_property('Name').unpack(): v for v in volumes if v}
print(sorted(volumes))
loop, seen = GLib.MainLoop(), []
def changed(manager, obj, interface, properties, invalidated):
    state = properties.lookup_value('State')
    if state and interface.get_cached_property('Name').unpack() == 'data1':
        seen.append(state.unpack())
        if seen[-1] == 'unlocked': loop.quit()
manager.connect('interface-proxy-properties-changed', changed)
volumes['data1'].call_sync('Unlock', GLib.Variant('(a{sv})', ({},)), 0, 30000, None)
GLib.timeout_add_seconds(60, loop.quit)
loop.run()
print(seen)
"""


@scenario(host=True)
def gdbus_object_manager_follows_an_unlock(s):
    """A GDBus ObjectManager client lists the volumes and follows an unlock by property changes."""
    host = s.host()
    host.unmount(["data1"])
    host.lock(["data1"])
    host.machine.push(GDBUS_CLIENT, "/run/client.py")
    names, seen = host.machine.must("python3 /run/client.py", timeout=120).splitlines()[-2:]
    assert names == str(VOLUMES), names
    assert seen.endswith("'unlocked']"), seen
