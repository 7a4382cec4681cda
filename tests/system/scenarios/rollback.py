# SPDX-License-Identifier: Apache-2.0
"""What is moved from elsewhere, put back from earlier, or changed while Coffer looks, is not opened."""

import base64
import json
from pathlib import Path

import luks2_edit
from coffer_host import BUS, ROOT, CofferHost, JobFailed
from scenario import scenario
from scenarios.refusals import (AGENT_STATE, locked_host, refused, restore, segment_change,
                                without_agent)

ROW_TOOL = Path(__file__).resolve().parent.parent / "guest" / "tools" / "registry_row.py"


def change_token(disk, **members):
    """Changes members of the coffer token in both copies of the header."""
    def change(metadata):
        luks2_edit.token_of(metadata).update(members)
    luks2_edit.edit(disk, change_json=change)


@scenario(host=True)
def header_older_than_the_host_knows(s):
    """A header of an older generation than the host's state is refused; both are good while a change is open."""
    host = locked_host(s, ["data1"])
    disk = host.machine.disk("data1")
    host.forget_mounts()
    host.machine.push(ROW_TOOL, "/run/registry_row.py")
    set_generations = f"python3 /run/registry_row.py {AGENT_STATE}/registry.db data1"
    # The host has gone on to generation 2; what stands on the disk is the old header.
    without_agent(host, f"{set_generations} 2 0")
    assert host.volumes()["data1"]["Generation"] == 2
    error, text = refused(s, host, "data1", "header rolled back")
    assert error == "HeaderRolledBack" and "generation" in text, (error, text)
    without_agent(host, f"{set_generations} 1 2")
    host.unlock(["data1"])
    host.lock(["data1"])
    without_agent(host, f"{set_generations} 1 0")
    whole = disk.path.read_bytes()
    change_token(disk, generation="2")
    error, _ = refused(s, host, "data1", "header newer than the host's state")
    assert error == "WrongGeneration", error
    restore(disk, whole)
    host.unlock(["data1"])


@scenario(host=True, timeout=900)
def key_of_another_host(s):
    """A disk, a token and a blob of a host with another HSM token are each refused, naming what is wrong."""
    theirs = another_hosts_disk(s)
    host = locked_host(s, ["data1"])
    disk = host.machine.disk("data1")
    whole, ours = disk.path.read_bytes(), luks2_edit.read_token(disk)

    # The disk itself, taken in by an admin.
    moved = host.machine.add_disk("moved1", size_mb=32)
    restore(moved, theirs.path.read_bytes())
    host.machine.wait_disks([moved])
    before = luks2_edit.digest(moved)
    try:
        host.wait_job(host.call("Manager", "Adopt", f"sa{{sv}} {moved.by_id} 1 name s moved1"))
    except JobFailed as failed:
        s.log(f"another host's disk: {failed}")
        assert "WrongHost" in str(failed), failed
    else:
        raise AssertionError("another host's disk was adopted")
    assert luks2_edit.digest(moved) == before
    assert "moved1" not in host.volumes()

    foreign = luks2_edit.read_token(theirs)
    mine = scope_of(ours)
    swapped = base64.b64decode(ours["context"]).replace(mine, scope_of(foreign))
    blob = bytearray(base64.b64decode(foreign["wraps"][0]))
    blob[6:26] = base64.b64decode(ours["wraps"][0])[6:26]  # their key under the name of ours
    for what, members, reasons in [
            ("their token", foreign, {"WrongVolume", "WrongHost"}),
            ("our token with their host", {"context": encode(swapped)}, {"WrongHost"}),
            ("our token with their blob", {"wraps": foreign["wraps"]}, {"NoSuchKey"}),
            ("their blob under our key's name", {"wraps": [encode(blob)]}, {"BlobInvalid"})]:
        change_token(disk, **members)
        error, _ = refused(s, host, "data1", what)
        assert error in reasons, f"{what}: {error}"
        restore(disk, whole)
    host.unlock(["data1"])


def encode(data):
    return base64.b64encode(bytes(data)).decode()


def scope_of(token):
    """The host's id in a token's context: docs/formats/key-context.md."""
    context = base64.b64decode(token["context"])
    at = 5 + 4 + int.from_bytes(context[5:9], "big") + 2 + 16
    size = int.from_bytes(context[at:at + 4], "big")
    assert size > 0, "the volume is bound to no host"
    return context[at + 4:at + 4 + size]


def another_hosts_disk(s):
    """A disk provisioned by a host with a token of its own, which is gone."""
    other = CofferHost(s.resumed("other"))
    other.init()
    disk = other.machine.add_disk("theirs", size_mb=32)
    other.provision([disk], file_system=None, mount=False)
    other.lock(["theirs"])
    other.machine.close()
    return disk


@scenario(host=True)
def header_changed_after_it_was_checked(s):
    """A header changed between check and activation is not used, and is refused at the next look."""
    host = locked_host(s, ["data1"])
    disk = host.machine.disk("data1")
    whole = disk.path.read_bytes()
    host.forget_mounts()
    table = open_table(host, "data1")
    header_bytes = 2 * luks2_edit.header_bytes(whole)

    # Prepared before, so that the key comes before cofferd gives the vault up.
    luks2_edit.edit(disk, change_json=segment_change(offset="4194304"))
    evil = disk.path.read_bytes()[:header_bytes]
    restore(disk, whole[:header_bytes])
    item = unlock_with_change(s, host, "data1", lambda: restore(disk, evil),
                              undo=lambda: restore(disk, whole[:header_bytes]))
    assert item.result == "done", item
    assert table_of(host, "data1") == table, "a header was used that nobody checked"
    assert disk.path.read_bytes()[:header_bytes] == evil, "the header was written to"
    host.lock(["data1"])
    error, text = refused(s, host, "data1", "header changed after it was checked")
    assert error == "ProfileMismatch" and "offset" in text, (error, text)
    restore(disk, whole)
    host.unlock(["data1"])


@scenario(host=True)
def disk_exchanged_after_it_was_checked(s):
    """A disk exchanged for another one between check and activation is refused, and not written to."""
    host = locked_host(s, ["data1"])
    m, disk = host.machine, host.machine.disk("data1")
    whole = disk.path.read_bytes()
    host.forget_mounts()

    def exchange():
        m.unplug(disk)
        m.plug(disk)  # with another device behind the name, whatever stands on it

    item = unlock_with_change(s, host, "data1", exchange, undo=lambda: m.wait_disks([disk]))
    s.log(f"{item}")
    assert item.result == "failed", item
    assert item.error.endswith(("DeviceChanged", "DeviceAbsent")), item
    assert disk.path.read_bytes() == whole
    m.wait_disks([disk])
    host.unlock(["data1"])


def open_table(host, name):
    """The mapping's table when all is well; the volume is locked again then."""
    host.unlock([name])
    table = table_of(host, name)
    host.lock([name])
    return table


def table_of(host, name):
    """What decides where the bytes go, without the number of the disk and the key's name."""
    words = host.machine.must(f"dmsetup table {name}").split()
    return words[:4] + words[5:6] + words[7:]


def unlock_with_change(s, host, name, change, undo, attempts=5):
    """The Item of an unlock in whose midst, after its header was checked, `change()` was done.

    cofferd waits some 4 s for the key. Where the change took longer nothing was shown: then `undo()` has to
    make all as it was, and it is done again.
    """
    for _ in range(attempts):
        job = unlock_up_to_the_key(host, name)
        change()
        host.machine.must("systemctl kill --signal=CONT coffer-vault@local.service")
        item = host.wait_job(job, must=False)[0]
        if not item.error.endswith("HsmTimeout"):
            return item
        s.log("the key came too late; once more")
        undo()
        host.wait_token()
        host.unlock([name])
        host.lock([name])
    raise AssertionError(f"the key came too late {attempts} times")


def unlock_up_to_the_key(host, name):
    """Starts an unlock whose header was checked, and whose key a stopped vault keeps back.

    That a header is good is recorded before a key is asked for, so the journal tells when.
    """
    seen = host.audit()[-1][0]
    call = f"busctl --json=short call {BUS} {ROOT} {BUS}"
    output = host.machine.must(
        f"systemctl kill --signal=STOP coffer-vault@local.service; "
        f"{call}.Manager UnlockMany 'asa{{sv}}' 1 {name} 0; "
        f"until {call}.Audit Query 'a{{sv}}u' 1 from-seq t {seen + 1} 1000 | grep -q 'intent volume.unlock'; "
        f"do sleep 0.05; done")
    return json.loads(output)["data"][0]


SWAP = """python3 - <<'END'
import sqlite3
d = sqlite3.connect("{0}/keyring.db")
(a, one), (b, two) = d.execute("select id, record from cmk order by alias").fetchall()
d.execute("update cmk set record = ? where id = ?", (two, a))
d.execute("update cmk set record = ? where id = ?", (one, b))
d.commit()
END""".format(AGENT_STATE)


@scenario(host=True)
def key_records_swapped_or_rolled_back(s):
    """Two CMK records swapped in the store, and an old one put back to undo Disable, are refused."""
    host = locked_host(s, ["data1"])
    host.forget_mounts()
    keep = f"rm -rf /run/kept; mkdir /run/kept; cp -a {AGENT_STATE}/keyring.db* /run/kept/"
    put_back = f"rm -f {AGENT_STATE}/keyring.db*; cp -a /run/kept/* {AGENT_STATE}/"
    host.call("Keyring", "CreateKey", "'sa{sv}' other 0")
    without_agent(host, f"{keep}; {SWAP}")
    error, _ = refused(s, host, "data1", "CMK records swapped")
    assert error in ("RecordInvalid", "StoreDamaged"), error
    without_agent(host, put_back)
    host.unlock(["data1"])
    host.lock(["data1"])

    used = host.volumes()["data1"]["Keys"][0]
    key = next(path for path, k in host.objects("Key").items() if k["Id"] in used)
    host.call("Key", "Disable", "'a{sv}' 1 force b true", key)
    error, _ = refused(s, host, "data1", "CMK disabled")
    assert error == "KeyDisabled", error
    without_agent(host, put_back)
    error, _ = refused(s, host, "data1", "CMK record rolled back")
    assert error == "RecordSuperseded", error
