# SPDX-License-Identifier: Apache-2.0
"""The power goes in the midst of something: the next boot finds how it ended and completes it."""

from pathlib import Path

from coffer_host import BUS, ROOT
from machine import Deadline
from scenario import scenario
from scenarios.boot import assert_open_before_login

TOOL = Path(__file__).resolve().parent.parent / "guest" / "tools" / "await_intent.py"
TOOL_IN_GUEST = "/root/await_intent.py"


def intended(operation, since):
    """A script that ends when such an intent was recorded behind that record."""
    return f"python3 {TOOL_IN_GUEST} {operation} {since}"


def mapped(pattern):
    """A script that ends when such a mapping is there."""
    return f"until compgen -G '/dev/mapper/{pattern}'; do sleep 0.01; done"


@scenario(timeout=1500, long=True, host=True)
def power_cut_during_unlock_at_boot(s):
    """The power goes when volumes are about to open, and when one is open; the next boot opens everything."""
    host = host_with_tool(s)
    for is_open in (False, True):
        records = host.audit()[-1][0]
        moment = mapped("data*") if is_open else intended("volume.unlock", records)
        host.machine.cut_power()
        host.machine.boot()
        host.machine.cut_power_when(moment)
        host.machine.boot()
        assert_open_before_login(s, host)
        cut_off = wait_recorded(host, records)
        s.log(f"cut off by: {moment}: {cut_off}")
        assert set(cut_off) == {"result volume.unlock"}, cut_off


@scenario(timeout=1500, long=True, host=True)
def power_cut_during_provision(s):
    """The power goes when a volume is about to be made, and when it is opened first; the next boot finishes it."""
    host = host_with_tool(s)
    m = host.machine
    for name, is_open in {"new1": False, "new2": True}.items():
        disk = m.add_disk(name, size_mb=32)
        m.wait_disks([disk])
        records = host.audit()[-1][0]
        moment = mapped(name) if is_open else intended("volume.provision", records)
        m.must(f"(sleep 1; busctl call {BUS} {ROOT} {BUS}.Manager Provision 'sa{{sv}}' {disk.by_id} "
               f"2 name s {name} file-system s ext4) >/dev/null 2>&1 </dev/null &")
        m.cut_power_when(moment)
        m.boot()
        assert_open_before_login(s, host)
        cut_off = wait_recorded(host, records)
        s.log(f"cut off by: {moment}: {cut_off}; {name} is {host.states().get(name)}")
        assert is_open or "result volume.provision" in cut_off, cut_off
        if name not in host.states():
            host.provision([disk], mount=False)
        host.wait_states({name: "unlocked"})
        m.wait_until(f"blkid --probe --match-tag TYPE /dev/mapper/{name} | grep ext4 && e2fsck -fn /dev/mapper/{name}")


def host_with_tool(s):
    host = s.host()
    host.machine.push(TOOL, TOOL_IN_GUEST)
    host.machine.must("sync")
    return host


def wait_recorded(host, since):
    """Waits until each intent on a volume since that record has a result, and checks the chain. Gives the
    events of the results that were written when the agent began again."""
    deadline = Deadline(60, "results")
    while True:
        records = [r for r in host.audit(since) if " volume." in r[3]]
        intents, results = (sorted((r[3].removeprefix(kind), r[4]) for r in records if r[3].startswith(kind))
                            for kind in ("intent", "result"))
        if intents and intents == results:
            break
        deadline.what = f"results: {records}"
        deadline.pause(0.5)
    host.machine.must("coffer audit verify")
    return [r[3] for r in records if "the agent ended before" in r[5] or "after a restart of" in r[5]]
