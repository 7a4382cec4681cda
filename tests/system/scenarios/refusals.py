# SPDX-License-Identifier: Apache-2.0
"""What is not as it was made is refused, naming what is wrong, and nothing is written to it."""

import re

import luks2_edit
from scenario import DETACHED, HEADER_DISK, VOLUMES, scenario

AGENT_STATE = "/var/lib/coffer/agent"


def locked_host(s, names):
    host = s.host()
    host.unmount(names)
    host.lock(names)
    return host


def refused(s, host, name, what):
    """Unlocking `name` fails by a named error and leaves the disk as it is; returns the error's name and text."""
    disk = host.machine.disk(name)
    before = luks2_edit.digest(disk)
    item = host.unlock([name], must=False)[0]
    assert item.result == "failed", f"{what}: {item}"
    assert name not in host.mappings(), what
    error, text = host.volumes()[name]["LastError"]
    assert error == item.error and ".Error." in error, f"{what}: {item}, {error}"
    assert luks2_edit.digest(disk) == before, f"{what}: the disk was written to"
    s.log(f"{what}: {error.rpartition('.')[2]}: {text}")
    return error.rpartition(".")[2], text


def segment_change(**fields):
    return lambda metadata: metadata["segments"]["0"].update(fields)


def other_uuid(binary):
    binary[168:168 + 36] = b"11111111-2222-4333-8444-555555555555"


def key_of_another_size(metadata):
    """A keyslot of a volume key of 32 bytes, as cryptsetup writes one."""
    metadata["keyslots"]["0"] = {
        "type": "luks2", "key_size": 32, "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
        "area": {"type": "raw", "offset": "131072", "size": "131072", "encryption": "aes-xts-plain64", "key_size": 32},
        "kdf": {"type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": metadata["digests"]["0"]["salt"]}}
    metadata["digests"]["0"]["keyslots"] = ["0"]


def segment_type(metadata):
    segment = metadata["segments"]["0"]
    metadata["segments"]["0"] = {"type": "linear", "offset": segment["offset"], "size": segment["size"]}


INTEGRITY = {"type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none"}

# What of the header is pinned: the field as the refusal names it, and a change that is valid LUKS2.
PINNED = {
    "segments.0.encryption": segment_change(encryption="aes-cbc-essiv:sha256"),
    "segments.0.sector_size": segment_change(sector_size=512),
    "segments.0.offset": segment_change(offset="4194304"),
    "segments.0.size": segment_change(size="4194304"),
    "segments.0.iv_tweak": segment_change(iv_tweak="8"),
    "segments.0.type": segment_type,
    "segments.0.integrity": segment_change(integrity=INTEGRITY),
    "segments.0.flags": segment_change(flags=["in-reencryption"]),
    "config.flags": lambda metadata: metadata["config"].update(flags=["allow-discards"]),
    "config.json_size": lambda metadata: metadata["config"].update(json_size="28672"),
    "config.keyslots_size": lambda metadata: metadata["config"].update(keyslots_size="262144"),
    "config.requirements": lambda metadata: metadata["config"].update(
        requirements={"mandatory": ["online-reencrypt-v2"]}),
    "keyslots.key_size": key_of_another_size,
}
# These are nothing that any profile holds, or that Coffer's own parser takes.
NOT_TAKEN = {"segments.0.encryption": "HeaderInvalid", "segments.0.type": "HeaderInvalid",
             "segments.0.integrity": "HeaderInvalid", "segments.0.flags": "HeaderUnusual",
             "config.requirements": "HeaderInvalid"}


@scenario(timeout=900, host=True)
def header_that_differs_from_its_profile(s):
    """A valid header that differs from the pinned profile in any field is refused, naming the field."""
    host = locked_host(s, ["data1"])
    disk = host.machine.disk("data1")
    whole = disk.path.read_bytes()
    for field, change in PINNED.items():
        luks2_edit.edit(disk, change_json=change)
        error, text = refused(s, host, "data1", field)
        assert error == NOT_TAKEN.get(field, "ProfileMismatch"), error
        assert field in text, text
        restore(disk, whole)
    luks2_edit.edit(disk, change_binary=other_uuid)
    error, _ = refused(s, host, "data1", "uuid")
    assert error == "ProfileMismatch", error
    restore(disk, whole)
    host.unlock(["data1"])


def restore(disk, data):
    """Puts old bytes back in place: the guest has the file open."""
    with open(disk.path, "r+b") as file:
        file.write(data)


@scenario(host=True)
def token_of_another_volume(s):
    """A token moved from another volume of the same host is refused."""
    host = locked_host(s, ["data1", "data2"])
    disk = host.machine.disk("data1")
    whole = disk.path.read_bytes()
    foreign = luks2_edit.read_json(host.machine.disk("data2"))["tokens"]
    luks2_edit.edit(disk, change_json=lambda metadata: metadata.update(tokens=foreign))
    error, _ = refused(s, host, "data1", "token of data2")
    assert error == "WrongVolume", error
    restore(disk, whole)
    host.unlock(["data1", "data2"])


@scenario(host=True)
def damaged_first_header_copy_still_opens(s):
    """With its first header copy destroyed a volume still opens, and says so."""
    host = locked_host(s, ["data1"])
    disk = host.machine.disk("data1")
    with open(disk.path, "r+b") as file:
        file.write(bytes(4096))
    host.unlock(["data1"])
    assert host.volumes()["data1"]["HeaderCopies"] == "primary-bad", host.volumes()["data1"]
    host.machine.wait_until("mountpoint -q /srv/data1")


@scenario(host=True)
def device_that_is_not_empty(s):
    """A device with data at its begin or end is provisioned with the confirmation that the refusal prints alone."""
    host = s.host()
    for name, offset_kb in {"used1": 512, "used2": 32 * 1024 - 512}.items():
        disk = host.machine.add_disk(name, size_mb=32)
        with open(disk.path, "r+b") as file:
            file.seek(offset_kb * 1024)
            file.write(b"somebody's data")
        text = not_provisioned(s, host, disk, "", "ForeignData")
        confirmation = re.search(r"give the confirmation ([0-9a-f]{32})", text)[1]
        wrong = confirmation[:-1] + ("1" if confirmation[-1] == "0" else "0")
        not_provisioned(s, host, disk, wrong, "ConfirmMismatch")
        assert name not in host.states(), host.states()
        host.wait_job(provisioning(host, disk, confirmation))
        host.wait_states({name: "unlocked"})


def provisioning(host, disk, confirmation):
    """The job that makes a volume of a disk, named like it."""
    confirm = f" confirm s {confirmation}" if confirmation else ""
    return host.call("Manager", "Provision",
                     f"sa{{sv}} {disk.by_id} {2 if confirm else 1} name s {disk.serial}{confirm}")


def not_provisioned(s, host, disk, confirmation, reason):
    """Provisioning is refused for that reason and leaves the disk as it is; returns what is told."""
    host.machine.wait_disks([disk])
    before = luks2_edit.digest(disk)
    job = provisioning(host, disk, confirmation)
    item = host.wait_job(job, must=False)[0]
    assert item.result == "failed" and item.error.endswith(f".Error.{reason}"), item
    assert luks2_edit.digest(disk) == before, "the disk was written to"
    text = host.call("Job", "GetDetails", "uu 0 1", job)[0]["text"]["data"]
    s.log(f"{reason}: {text}")
    return text


@scenario(host=True)
def device_shorter_than_its_header_says(s):
    """A device that was cut short, before or within its data, is refused."""
    host = locked_host(s, ["data1"])
    m, disk = host.machine, host.machine.disk("data1")
    for size_mb in (24, 8):  # the data begin at 16
        m.unplug(disk)
        host.wait_states({"data1": "absent"})
        with open(disk.path, "r+b") as file:
            file.truncate(size_mb * 1024 * 1024)
        m.plug(disk)
        m.wait_disks([disk])
        error, _ = refused(s, host, "data1", f"device of {size_mb} MiB")
        assert error == "DeviceTooSmall", error


# Makes a disabled key's record say Enabled (docs/formats/cmk-record.md), and keeps the store as it was.
EDIT = """
cp -a {0}/keyring.db {0}/keyring.db.kept
python3 - <<'END'
import sqlite3
d = sqlite3.connect("{0}/keyring.db")
for key, record in d.execute("select id, record from cmk").fetchall():
    assert record[29] == 2, record[29]
    d.execute("update cmk set record = ? where id = ?", (record[:29] + bytes([1]) + record[30:], key))
d.commit()
END
""".format(AGENT_STATE)
UNDO = "rm -f {0}/keyring.db-*; mv {0}/keyring.db.kept {0}/keyring.db".format(AGENT_STATE)


def without_agent(host, script):
    """Runs a script while cofferd is stopped, as somebody does who has its state."""
    host.machine.must(f"set -e; systemctl stop cofferd.service\n{script}\nsystemctl start cofferd.service")
    host.wait_up()


@scenario(timeout=900, host=True)
def edited_key_record_is_refused(s):
    """A disabled CMK that somebody enabled in the store is refused by the vault, which knows its own seal."""
    host = locked_host(s, ["data1"])
    key = next(iter(host.objects("Key")))
    host.call("Key", "Disable", "'a{sv}' 1 force b true", key)
    without_agent(host, EDIT)
    assert host.objects("Key")[key]["State"] == "Enabled"  # as the store says, which nothing protects
    error, text = refused(s, host, "data1", "edited CMK record")
    assert error == "RecordInvalid" and "seal" in text, (error, text)
    without_agent(host, UNDO)
    error, _ = refused(s, host, "data1", "the record as it was")
    assert error == "KeyDisabled", error
    host.call("Key", "Enable", "'a{sv}' 0", key)
    host.unlock(["data1"])


@scenario(timeout=900, host=True)
def lost_registry_is_adopted_again(s):
    """With the registry and keys lost, adopt brings the volumes back, with their CMKs disabled until enabled."""
    host = locked_host(s, VOLUMES)
    host.machine.must(f"systemctl stop cofferd.service; rm -f {AGENT_STATE}/registry.db* {AGENT_STATE}/keyring.db*; "
                      "systemctl start cofferd.service")
    host.wait_up()
    assert not host.volumes()
    for name in VOLUMES:
        disk = host.machine.disk(name)
        header = f" header-device s {host.machine.disk(HEADER_DISK).by_id}" if name == DETACHED else ""
        host.wait_job(host.call("Manager", "Adopt",
                                f"sa{{sv}} {disk.by_id} {2 if header else 1} name s {name}{header}"))
    assert set(host.states()) == set(VOLUMES), host.states()
    keys = host.objects("Key")
    assert keys and all(key["State"] == "Disabled" for key in keys.values()), keys
    error, _ = refused(s, host, "data1", "adopted, CMK still disabled")
    assert error == "KeyDisabled", error
    for path in keys:
        host.call("Key", "Enable", "'a{sv}' 0", path)
    host.unlock(VOLUMES)
