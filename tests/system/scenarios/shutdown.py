# SPDX-License-Identifier: Apache-2.0
"""What takes the mappings away at shutdown: coffer-close.service, stopped when all else is gone."""

from coffer_host import all_closed
from scenario import VOLUMES, scenario

CLOSE = "coffer-close.service"
MARKS = "/run/coffer/dm"

# A volume that Coffer has nothing to do with.
FOREIGN = """
truncate --size=32M /var/tmp/foreign
printf other >/run/foreign.key
cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /var/tmp/foreign /run/foreign.key
cryptsetup open --key-file /run/foreign.key /var/tmp/foreign foreign
"""


def host_about_to_stop(s):
    """A host on which, as at the end of a shutdown, nothing is mounted and the daemons are gone."""
    host = s.host()
    host.unmount(VOLUMES)
    host.machine.must("systemctl stop cofferd.socket cofferd.service coffer-worker.socket coffer-worker.service")
    assert host.mappings() == set(VOLUMES), host.mappings()
    assert marks(host) == len(VOLUMES)
    said(host)
    return host


def marks(host):
    return len(host.machine.must(f"ls {MARKS}").split())


def said(host):
    """What was said of the unit since this was asked last."""
    return host.machine.must(f"journalctl --sync; journalctl --unit={CLOSE} --output=cat --cursor-file=/run/said")


@scenario(host=True)
def mappings_are_closed_at_the_end(s):
    """The stop-only unit closes the mappings of all 8 volumes and takes their marks; another's stays."""
    host = host_about_to_stop(s)
    m = host.machine
    m.must(FOREIGN)
    m.must(f"systemctl is-active {CLOSE} && systemctl stop {CLOSE}")
    text = said(host)
    s.log(text.strip())
    assert all_closed(len(VOLUMES)) in text and "FAILURE" not in text, text
    assert host.mappings() == {"foreign"}, host.mappings()
    assert marks(host) == 0
    m.must("cryptsetup status foreign | grep 'is active'")
    # At a shutdown only the console is still read.
    assert all_closed(len(VOLUMES)) in m.console(), m.console()[-3000:]


@scenario(host=True)
def mapping_in_use_at_the_end_is_named(s):
    """The stop-only unit names what holds a mapping and fails; what was let go is gone then."""
    host = host_about_to_stop(s)
    m = host.machine
    m.must("sleep infinity </dev/mapper/data1 >/dev/null 2>&1 & echo $! >/run/holder; "
           "dmsetup create above --table '0 8 linear /dev/mapper/data2 0'")
    above = m.must("basename $(readlink -f /dev/mapper/above)").strip()
    m.run(f"systemctl stop {CLOSE}")
    text = said(host)
    s.log(text.strip())
    assert f"closed {len(VOLUMES) - 2} of {len(VOLUMES)} volumes" in text and "status=1/FAILURE" in text, text
    assert "data1 is still in use by a mount or a program" in text, text
    assert f"data2 is still in use by {above}" in text, text
    assert host.mappings() == {"data1", "data2", "above"}, host.mappings()
    assert marks(host) == 2

    m.must("kill $(cat /run/holder); dmsetup remove above")
    m.must(f"systemctl start {CLOSE}; systemctl stop {CLOSE}")
    text = said(host)
    assert all_closed(2) in text and "FAILURE" not in text, text
    assert not host.mappings() and marks(host) == 0, host.mappings()
