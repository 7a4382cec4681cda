# SPDX-License-Identifier: Apache-2.0
"""What the processes may do, and where a key can be found."""

from pathlib import Path

from scenario import scenario

HUNT = Path(__file__).resolve().parent.parent / "guest" / "tools" / "key_hunt.py"

UNITS = ["cofferd.service", "coffer-worker.service", "coffer-vault@local.service",
         "coffer-reader.service", "coffer-boot.service", "coffer-close.service"]


@scenario(host=True)
def units_are_tight_and_valid(s):
    """systemd-analyze gives each unit an exposure of 1.5 or lower and finds nothing wrong."""
    m = s.host().machine
    for unit in UNITS:
        last = m.must(f"systemd-analyze security --no-pager {unit} | tail -1")
        exposure = float(last.split(":")[1].split()[0])
        s.log(f"{unit}: {exposure}")
        assert exposure <= 1.5, last
    m.must("systemd-analyze verify --man=no " + " ".join(UNITS), timeout=120)


@scenario(host=True)
def volume_key_is_nowhere_but_in_the_kernel(s):
    """A second after an unlock neither the volume's key nor the PIN is in any process, log or message."""
    host = s.host()
    m = host.machine
    host.unmount(["data1"])
    host.lock(["data1"])
    m.push(HUNT, "/run/key_hunt.py")
    m.must("systemd-creds decrypt --name=pin /etc/coffer/credentials/vault-local.pin /run/pin || "
           "cp /etc/coffer/credentials/vault-local.pin /run/pin")
    output = m.must("python3 /run/key_hunt.py /run/pin data1", timeout=240)
    s.log(output.strip())
    assert "0 keys" not in output
    assert "names the key: True" in output
    assert "keys found in: nothing" in output
    assert "secret found in: nothing" in output
