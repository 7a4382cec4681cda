# SPDX-License-Identifier: Apache-2.0
"""A volume whose header stands on another disk. Boots, kills and adopt have one among their volumes too."""

import luks2_edit
from scenario import DETACHED, HEADER_DISK, scenario
from scenarios.refusals import locked_host, refused, restore


@scenario(host=True)
def header_stands_on_its_own_disk(s):
    """A detached volume locks and unlocks; nothing of its header is on the data disk; a wiped one is named."""
    host = locked_host(s, [DETACHED])
    m = host.machine
    data, header = m.disk(DETACHED), m.disk(HEADER_DISK)
    content = data.path.read_bytes()
    assert not any(magic in content for magic in luks2_edit.MAGICS)
    whole = header.path.read_bytes()
    assert whole.startswith(luks2_edit.MAGICS[0])
    properties = host.volumes()[DETACHED]
    assert HEADER_DISK in properties["HeaderDevice"], properties

    with open(header.path, "r+b") as file:
        file.write(bytes(2 * luks2_edit.header_bytes(whole)))
    wiped = luks2_edit.digest(header)
    error, text = refused(s, host, DETACHED, "header wiped")
    node = m.must(f"readlink -f {header.by_id}").strip()
    assert error == "NotLuks2" and node in text, (error, text, node)
    assert luks2_edit.digest(header) == wiped, "the header's disk was written to"

    restore(header, whole)
    host.unlock([DETACHED])
    assert "crypt" in m.must(f"dmsetup table {DETACHED}")
    m.wait_until(f"mountpoint -q /srv/{DETACHED}")
    host.assert_files([DETACHED])


@scenario(host=True)
def header_disk_comes_last(s):
    """A detached volume whose disks were pulled out opens by itself when the second one is back."""
    host = s.host()
    m = host.machine
    data, header = m.disk(DETACHED), m.disk(HEADER_DISK)
    host.unmount([DETACHED])
    m.unplug(data)
    m.unplug(header)
    host.wait_states({DETACHED: "absent"})
    m.wait_until(f"! dmsetup info {DETACHED}")
    m.plug(data)
    m.wait_disks([data])
    item = host.unlock([DETACHED], must=False)[0]
    assert item.error.endswith("DeviceAbsent"), item
    text = host.volumes()[DETACHED]["LastError"][1]
    assert HEADER_DISK in text, text
    m.plug(header)
    s.log(f"open {host.wait_states({DETACHED: 'unlocked'}):.1f} s after its header came back")
    m.wait_until(f"mountpoint -q /srv/{DETACHED}")
