# SPDX-License-Identifier: Apache-2.0
"""A host unlocks its own volumes: at boot, when plugged in, and after anything of it was killed."""

import json

from coffer_host import PROGRAMS, mount_unit
from machine import Deadline
from scenario import DASHED, DETACHED, VOLUMES, scenario


def assert_open_before_login(s, host):
    """All volumes are open and mounted, with their files, since before the login prompt."""
    m = host.machine
    login = m.wait_for_login()
    prompt = host.seconds_of_unit("serial-getty@ttyS0.service")
    assert host.mounted(VOLUMES) == set(VOLUMES), host.states()
    mounted = {name: host.seconds_of_unit(mount_unit(name)) for name in VOLUMES}
    assert all(at and at <= prompt for at in mounted.values()), (prompt, mounted)
    host.wait_up()
    assert set(host.states().values()) == {"unlocked"}, host.states()
    host.assert_files(VOLUMES)
    s.log(f"login prompt {login:.1f} s after power-on; last volume mounted "
          f"{prompt - max(mounted.values()):.1f} s before it")


@scenario(timeout=900, host=True)
def volumes_open_before_login_twice_in_a_row(s):
    """After a power cut and again after a clean shutdown, all volumes are mounted before the login prompt."""
    host = s.host(resume=False)
    for _ in range(2):
        host.machine.boot()
        assert_open_before_login(s, host)
        assert host.machine.wait_ready() == "running", host.machine.must("systemctl --failed")
        host.assert_clean_shutdown(len(VOLUMES))


@scenario(host=True)
def plugged_volume_opens_by_itself(s):
    """A volume that is pulled out becomes absent, and opens and mounts by itself when it is back."""
    host = s.host()
    m, disk = host.machine, host.machine.disk(DASHED)
    host.unmount([DASHED])
    m.unplug(disk)
    s.log(f"absent after {host.wait_states({DASHED: 'absent'}):.1f} s")
    m.wait_until(f"! dmsetup info {DASHED}")
    m.plug(disk)
    s.log(f"open after {host.wait_states({DASHED: 'unlocked'}):.1f} s")
    m.wait_until(f"mountpoint -q /srv/{DASHED}")
    host.assert_files(VOLUMES)


@scenario(host=True)
def volume_pulled_out_in_use_is_cleaned_up(s):
    """A volume that is pulled out while mounted is reported, and its mapping goes with its mount."""
    host = s.host()
    m = host.machine
    identity = host.volumes()["data1"]["Id"]
    host.listen("--match \"type='signal',member='Alert'\"", "/run/alerts")
    m.unplug(m.disk("data1"))
    host.wait_states({"data1": "absent"})
    told = m.wait_until("grep -a '\"member\":\"Alert\"' /run/alerts")[0].splitlines()
    m.must("kill $(cat /run/alerts.pid)")
    alerts = [json.loads(line)["payload"]["data"] for line in told]
    s.log(f"alerts: {alerts}")
    assert [alert[:3] for alert in alerts] == [["error", "org.coffer.Agent1.Error.DeviceAbsent", identity]], alerts
    m.run("umount /srv/data1")
    m.wait_until("! mountpoint -q /srv/data1 && ! dmsetup info data1")
    others = VOLUMES[1:]
    host.assert_files(others)
    assert all(host.states()[name] == "unlocked" for name in others), host.states()


@scenario(host=True)
def admin_locks_and_unlocks(s):
    """Volumes lock and unlock over D-Bus; one that is mounted is refused as busy and stays open."""
    host = s.host()
    busy = host.lock(["data1"], must=False)
    assert busy[0].result == "failed" and busy[0].error.endswith("Busy"), busy
    host.assert_files(VOLUMES)
    host.unmount(VOLUMES)
    s.log("locked: " + ", ".join(f"{i.duration:.2f} s" for i in host.lock(VOLUMES)))
    assert not host.mappings() & set(VOLUMES)
    assert set(host.states().values()) == {"locked"}
    s.log("unlocked: " + ", ".join(f"{i.duration:.2f} s" for i in host.unlock(VOLUMES)))
    host.machine.wait_until(" && ".join(f"mountpoint -q /srv/{name}" for name in VOLUMES))
    host.assert_files(VOLUMES)


@scenario(host=True)
def restarts_lose_no_mapping(s):
    """Each process is restarted with volumes open: no mapping goes, and the state is known again."""
    host = s.host()
    tables = host.machine.must("dmsetup table")
    for program in PROGRAMS:
        host.machine.must(f"systemctl restart {program}")
        host.wait_up()
        host.wait_states({name: "unlocked" for name in VOLUMES})
        assert host.machine.must("dmsetup table") == tables, program
        s.log(f"{program} restarted")
    # What was adopted is known well enough to be worked with.
    some = ["data1", DETACHED]
    host.unmount(some)
    host.lock(some)
    assert not host.mappings() & set(some)
    host.unlock(some)


def sent_unread(client, socket, more_than_bytes):
    """A script that ends when so much of what a unit has sent to that socket was not read yet."""
    # What it is connected to is listed with the sockets of its own network.
    return (f"client=$(systemctl show --property=MainPID --value {client}); "
            f"until nsenter --target=$client --net ss -Hxa | awk '$5 == \"/run/coffer/{socket}\" && "
            f"$3 > {more_than_bytes} {{ found = 1 }} END {{ exit !found }}'; do sleep 0.05; done")


# What an unlock of 8 has come to when a process of Coffer dies: done before it, and awaited after it.
# A stopped process reads nothing of what it is asked, so that is no matter of luck. What the vault is asked
# may also be how its token is, but that is some tens of bytes; 8 keys are more.
STOP = "systemctl kill --signal=STOP {}; "
ONE_IS_OPEN = ("", "until compgen -G '/dev/mapper/data*'; do sleep 0.01; done")
ASKED_FOR_KEYS = sent_unread("cofferd.service", "vault-local.sock", 500)
ASKED_FOR_HEADERS = sent_unread("coffer-worker.service", "reader.sock", 0)
MOMENTS = {
    "a volume is open": ("cofferd.service", *ONE_IS_OPEN),
    "a mapping is made": ("coffer-worker.service", *ONE_IS_OPEN),
    "keys are on their way": ("coffer-vault@local.service", STOP, ASKED_FOR_KEYS),
    "headers are read": ("coffer-reader.service", STOP, ASKED_FOR_HEADERS),
}


@scenario(timeout=900, host=True)
def kill_during_unlock_leaves_open_or_locked(s):
    """Each process is killed in the midst of an unlock of 8: volumes are open or locked, and the next completes."""
    host = host_without_mounts(s)
    for moment, (program, before, until) in MOMENTS.items():
        open_then = kill_once(s, host, program, before.format(program), until, moment)
        assert open_then != set(VOLUMES), "the unlock was over already"


@scenario(timeout=1800, long=True, host=True)
def kill_at_many_moments_of_an_unlock(s):
    """Each process is killed at several times after the begin of an unlock of 8; the next unlock completes."""
    host = host_without_mounts(s)
    for program in PROGRAMS:
        for delay in (0.05, 0.3, 0.8, 1.5, 3, 6):
            kill_once(s, host, program, "", f"sleep {delay}", f"after {delay} s")


def host_without_mounts(s):
    """A host whose volumes stay unmounted: mounting by systemd would make them busy."""
    host = s.host()
    host.unmount(VOLUMES)
    host.forget_mounts()
    return host


def kill_once(s, host, program, before, until, moment):
    host.lock(VOLUMES)
    records = host.audit()[-1][0]
    # What is open is listed just before the kill, and both are done by the shell itself: another process
    # or systemd takes its time, and what was not stopped goes on meanwhile.
    output = host.machine.must(
        f"group=/sys/fs/cgroup$(systemctl show --property=ControlGroup --value {program}); {before} "
        f"busctl call org.coffer.Agent1 /org/coffer/Agent1 org.coffer.Agent1.Manager UnlockAll 'a{{sv}}' 0; "
        f"{{ {until}; }} >/dev/null 2>&1; cd /dev/mapper; echo *; echo 1 >$group/cgroup.kill")
    open_then = set(output.split()) & set(VOLUMES)
    host.wait_up()
    mapped = settled_mappings(host)
    host.wait_token()
    host.unlock(VOLUMES)
    assert set(host.states().values()) == {"unlocked"}
    assert_recorded(host, records)
    s.log(f"{program} killed when {moment}: {len(open_then)} were open then, {len(mapped)} a little later")
    return open_then


def assert_recorded(host, since):
    """Each unlock that was begun since that record has a result, also if its process died, and the chain holds."""
    records = [r for r in host.audit(since) if r[3].endswith(" volume.unlock")]
    intents, results = ({r[4]: sum(q[4] == r[4] and q[3] == r[3] for q in records)
                         for r in records if r[3].startswith(kind)} for kind in ("intent", "result"))
    assert len(intents) == len(VOLUMES) and intents == results, (intents, results)
    ok, bad, text = host.call("Audit", "Verify", "tt 0 0")
    assert ok, (bad, text)


def settled_mappings(host):
    """What is mapped once each volume is known to be open or not: a worker that starts anew has to tell."""
    deadline = Deadline(90, "states as the mappings are")
    while True:
        states, mapped = host.states(), host.mappings() & set(VOLUMES)
        closed = {name for name, state in states.items() if state in ("locked", "failed")}
        opened = {name for name, state in states.items() if state == "unlocked"}
        if opened == mapped and opened | closed == set(VOLUMES):
            return mapped
        deadline.what = f"states as the mappings are: {states}, {mapped}"
        deadline.pause(0.2)
