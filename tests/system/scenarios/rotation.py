# SPDX-License-Identifier: Apache-2.0
"""Rotation that reaches the disks: open volumes move to a key's newest version, and the old one goes."""

import base64

import luks2_edit
from machine import Deadline, MachineError
from scenario import DASHED, DETACHED, HEADER_DISK, VOLUMES, scenario
from scenarios.boot import assert_open_before_login

VERSION_AT = 22  # of a wrapped key: docs/formats/wrapped-key.md


def header_disk(host, name):
    return host.machine.disk(HEADER_DISK if name == DETACHED else name)


def versions(host, names):
    """The versions that wrap these volumes' keys, as the first copies of their headers say."""
    found = set()
    for name in names:
        for wrap in luks2_edit.read_token(header_disk(host, name))["wraps"]:
            blob = base64.b64decode(wrap)
            found.add(int.from_bytes(blob[VERSION_AT:VERSION_AT + 4], "big"))
    return found


def assert_whole(host, names):
    """Both copies of each header say the same."""
    for name in names:
        data = header_disk(host, name).path.read_bytes()
        size = luks2_edit.header_bytes(data)
        first, second = (data[at + luks2_edit.BINARY_BYTES:at + size] for at in (0, size))
        assert first == second, f"the copies of {name} differ"


def key_of(host):
    """The path of the key that opens the volumes."""
    used = host.volumes()["data1"]["Keys"][0][0]
    return next(path for path, key in host.objects("Key").items() if key["Id"] == used)


def rotate(host, key):
    host.call("Key", "Rotate", "'a{sv}' 0", key)
    return host.get("Key", "Version", key)


def start_rewrap(host, key, options="0"):
    return host.call("Key", "RewrapAll", f"'a{{sv}}' {options}", key)


def destroy(host, key, version):
    """Destroys a version; the error's text when that is refused."""
    try:
        host.call("Key", "DestroyVersion", f"'ua{{sv}}' {version} 0", key)
    except MachineError as error:
        return str(error)
    return ""


@scenario(host=True, timeout=1500)
def open_volumes_move_and_the_old_version_goes(s):
    """Mounted volumes are rewrapped, open from the new version after a reboot, and the old one is destroyed."""
    host = s.host()
    m = host.machine
    key = key_of(host)
    tables = m.must("dmsetup table")
    assert versions(host, VOLUMES) == {1}
    assert rotate(host, key) == 2
    text = destroy(host, key, 1)
    assert "data1" in text, text

    items = host.wait_job(start_rewrap(host, key))
    s.log("moved: " + ", ".join(f"{item.duration:.2f} s" for item in items))
    assert len(items) == len(VOLUMES), items
    assert versions(host, VOLUMES) == {2}
    assert_whole(host, VOLUMES)
    assert m.must("dmsetup table") == tables, "a mapping changed"
    assert set(host.states().values()) == {"unlocked"}, host.states()
    host.assert_files(VOLUMES)
    # What libcryptsetup itself says of the headers.
    for name in VOLUMES:
        m.must(f"cryptsetup luksDump {header_disk(host, name).by_id} | grep -q coffer")

    m.must("sync")
    m.cut_power()
    m.boot()
    assert_open_before_login(s, host)

    # One that is not there is not proven.
    disk = m.disk(DASHED)
    host.unmount([DASHED])
    m.unplug(disk)
    host.wait_states({DASHED: "absent"})
    assert DASHED in destroy(host, key, 1)
    m.plug(disk)
    host.wait_states({DASHED: "unlocked"})
    m.wait_until(f"mountpoint -q /srv/{DASHED}")
    assert destroy(host, key, 1) == ""
    assert [version[1] for version in host.get("Key", "Versions", key)] == ["destroyed", "current"]
    m.must("sync")
    m.cut_power()
    m.boot()
    assert_open_before_login(s, host)


@scenario(host=True, timeout=900)
def rewrap_goes_on_after_its_agent_was_killed(s):
    """A rewrap whose agent is killed between two volumes goes on by itself; one that is cancelled does not."""
    host = s.host()
    m = host.machine
    key = key_of(host)
    rotate(host, key)
    # Five seconds for each volume: time to kill it between two.
    start_rewrap(host, key, "1 per-minute t 12")
    deadline = Deadline(60, "the first volume")
    while versions(host, VOLUMES) == {1}:
        deadline.pause(0.2)
    m.must("systemctl kill --signal=KILL cofferd.service")
    host.wait_up()
    deadline = Deadline(300, "the rest of the volumes")
    while versions(host, VOLUMES) != {2}:
        deadline.pause(1)
    host.wait_states({name: "unlocked" for name in VOLUMES})
    host.assert_files(VOLUMES)
    wait_rewraps_ended(host)

    assert rotate(host, key) == 3
    job = start_rewrap(host, key, "1 per-minute t 12")
    deadline = Deadline(60, "the first volume")
    while versions(host, VOLUMES) == {2}:
        deadline.pause(0.2)
    host.call("Job", "Cancel", "'a{sv}' 0", job)
    wait_rewraps_ended(host)
    left = versions(host, VOLUMES)
    assert left == {2, 3}, left
    m.must("systemctl restart cofferd.service")
    host.wait_up()
    host.wait_states({name: "unlocked" for name in VOLUMES})
    assert not rewraps(host), "a cancelled rewrap went on"
    assert destroy(host, key, 2), "a version that volumes need was destroyed"
    host.wait_job(start_rewrap(host, key))
    assert versions(host, VOLUMES) == {3}
    assert destroy(host, key, 2) == "" and destroy(host, key, 1) == ""


def rewraps(host):
    """Jobs that rewrap and have not ended."""
    return [job for job in host.call("Manager", "ListJobs")
            if job[2] == "rewrap" and job[3] in ("queued", "running")]


def wait_rewraps_ended(host):
    deadline = Deadline(120, "the end of the rewraps")
    while rewraps(host):
        deadline.pause(0.2)
