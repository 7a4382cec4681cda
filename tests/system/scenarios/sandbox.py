# SPDX-License-Identifier: Apache-2.0
"""What the processes may do, and where a key can be found."""

import base64
import json
import re
from pathlib import Path

import luks2_edit
from coffer_host import PROGRAMS
from scenario import scenario
from scenarios.refusals import AGENT_STATE

TOOLS = Path(__file__).resolve().parent.parent / "guest" / "tools"
HUNT, ASK = TOOLS / "key_hunt.py", TOOLS / "ask_for_key.py"

UNITS = [*PROGRAMS, "coffer-boot.service", "coffer-close.service", "coffer-pin@local.service"]


@scenario(host=True)
def units_are_tight_and_valid(s):
    """systemd-analyze gives each unit an exposure of 1.5 or lower and finds nothing wrong."""
    m = s.host().machine
    for unit in UNITS:
        last = m.must(f"systemd-analyze security --no-pager {unit} | tail -1")
        exposure = float(last.split(":")[1].split()[0])
        s.log(f"{unit}: {exposure}")
        assert exposure <= 1.5, last
    complaints = m.must("systemd-analyze verify --man=no --recursive-errors=one " + " ".join(UNITS), timeout=120)
    assert not complaints.strip(), complaints


@scenario(host=True)
def volume_key_is_nowhere_but_in_the_kernel(s):
    """After an unlock neither the volume's key nor the PIN is in any process, log, message, file or core."""
    host = s.host()
    m = host.machine
    host.unmount(["data1"])
    host.lock(["data1"])
    m.push(HUNT, "/run/key_hunt.py")
    m.must("systemd-creds decrypt --name=pin /etc/coffer/credentials/vault-local.pin /run/pin || "
           "cp /etc/coffer/credentials/vault-local.pin /run/pin")
    output = m.must("python3 /run/key_hunt.py /run/pin data1", timeout=480)
    s.log(output.strip())
    assert "0 keys" not in output
    assert "names the key: True" in output
    assert "keys found in: nothing" in output
    assert "secret found in: nothing" in output
    assert "the bus was heard: True" in output
    assert int(re.search(r"(\d+) spans; seen in cofferd or reader meanwhile: False", output)[1]) > 0
    assert "places that the hunt does not see: none" in output
    assert "cores but of the canary: none" in output
    assert "after the crash found in: nothing" in output
    host.wait_up()
    m.must("systemctl start " + " ".join(PROGRAMS))
    for unit in PROGRAMS:
        limit = m.must(f"grep 'Max core file size' /proc/$(systemctl show -p MainPID --value {unit})/limits")
        assert limit.split()[4:6] == ["0", "0"], limit


# The sealed records of the store, by the CMK's id.
RECORDS = f"""python3 - <<'END'
import json, sqlite3
rows = sqlite3.connect("file:{AGENT_STATE}/keyring.db?mode=ro", uri=True).execute("select record from cmk")
print(json.dumps({{bytes(row[0])[5:21].hex(): bytes(row[0]).hex() for row in rows}}))
END"""

# The numbers of the reasons, as they travel between the processes.
REASONS = re.findall(r"^  k(\w+),", (Path(__file__).resolve().parents[3] / "core" / "base" / "error_reasons.h")
                     .read_text().partition("enum class Reason")[2], re.MULTILINE)


def as_envelope(context):
    """A volume key's context that says it is the key of an envelope, which the vault does hand out."""
    at = 5 + 4 + int.from_bytes(context[5:9], "big")
    return context[:at] + b"\2\0" + context[at + 2 + 16:]


@scenario(host=True)
def only_the_worker_gets_a_volume_key(s):
    """With the rights of cofferd or the reader, a volume's key is asked for in vain, by socket and by memory."""
    host = s.host()
    m = host.machine
    token = luks2_edit.read_token(m.disk("data1"))
    wrap, context = (base64.b64decode(text) for text in (token["wraps"][0], token["context"]))
    records = json.loads(m.must(RECORDS))
    material = {"record": records[wrap[6:22].hex()], "wrap": wrap.hex(), "context": context.hex(),
                "lie": as_envelope(context).hex()}
    m.push(json.dumps(material), "/run/material.json")
    m.push(ASK, "/run/ask_for_key.py")

    for user, expected in {
            "coffer": {"vault socket": "connected", "deliver socket": "EACCES", "worker socket": "connected",
                       "unwrap": "WrongPurpose", "unwrap with a lie": "BlobInvalid", "deliver": "TicketUnknown"},
            "coffer-reader": {"vault socket": "EACCES", "deliver socket": "EACCES", "worker socket": "EACCES",
                              "unwrap": "EACCES", "unwrap with a lie": "EACCES", "deliver": "EACCES"}}.items():
        output = m.must(f"setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs --bounding-set -all "
                        "python3 /run/ask_for_key.py /run/material.json")
        answers = {what: REASONS[a] if isinstance(a, int) else a for what, a in json.loads(output).items()}
        s.log(f"{user}: {answers}")
        assert answers == expected | {f"memory of the {p}": "EACCES" for p in ("worker", "vault")}, answers
    # Asked by who may, the very same blob does open: what was refused above was a good one.
    host.unmount(["data1"])
    host.lock(["data1"])
    host.unlock(["data1"])
