# SPDX-License-Identifier: Apache-2.0
"""Locks of volumes that are in use: when the last user lets go, or at once."""

from scenario import scenario

IN_USE = "in use: goes when its last user lets go"


def lingers_until(host, name, let_go):
    """The volume is locking and cannot be opened; once its users let go it is locked, and opens and mounts again."""
    volume = host.volumes()[name]
    assert (volume["State"], volume["LockedByAdmin"]) == ("locking", True), volume
    assert name in host.mappings()
    item = host.unlock([name], must=False)[0]
    assert item.result == "failed" and item.error.endswith(".Error.Busy"), item
    assert host.states()[name] == "locking", host.states()
    host.machine.must(let_go)
    host.wait_states({name: "locked"})
    assert name not in host.mappings()
    host.unlock([name])
    host.machine.wait_until(f"mountpoint -q /srv/{name}")
    host.assert_files([name])


@scenario(host=True)
def deferred_lock_waits_for_the_last_user(s):
    """A mounted volume, locked with `deferred`, serves its user until that lets go; meanwhile an unlock says Busy."""
    host = s.host()
    job = host.call("Manager", "LockMany", "asa{sv} 1 data1 1 deferred b true")
    items = host.wait_job(job)
    details = host.call("Job", "GetDetails", "uu 0 1", job)[0]
    s.log(f"{items[0]}: {details['note']['data']}")
    assert items[0].result == "done" and details["note"]["data"] == IN_USE, details
    host.machine.must("sync; echo 3 >/proc/sys/vm/drop_caches; cat /srv/data1/file; echo more >/srv/data1/other; sync")
    lingers_until(host, "data1", "umount /srv/data1")


@scenario(host=True)
def forced_lock_takes_the_data_away(s):
    """A mounted volume, locked with `force` by D-Bus or command, gives nothing to who holds it, until that lets go."""
    host = s.host()
    m = host.machine
    m.must("sync")
    for name in ("data1", "data2"):
        # systemd unmounts what has become unreadable; this user of the device stays.
        m.must(f"systemd-run --unit=holder sh -c 'exec sleep infinity </dev/mapper/{name}'")
        m.wait_until("readlink /proc/$(systemctl show -p MainPID --value holder.service)/fd/0 | grep /dev/dm-")
        if name == "data1":
            host.lock([name], "1 force b true")
        else:
            s.log(m.must(f"coffer lock --force {name}"))
        table = m.must(f"dmsetup table {name}")
        assert table.split()[2:] == ["error"], table
        assert m.run(f"dd if=/dev/mapper/{name} of=/dev/null bs=4096 count=1 iflag=direct").status != 0
        lingers_until(host, name, f"systemctl stop holder.service; ! mountpoint -q /srv/{name} || umount /srv/{name}")
