# SPDX-License-Identifier: Apache-2.0
"""A host unlocks its own volumes: at boot, when plugged in, and after anything of it was killed."""

from scenario import VOLUMES, scenario

PROGRAMS = ["cofferd.service", "coffer-worker.service", "coffer-vault@local.service",
            "coffer-reader.service"]


def assert_open_before_login(s, host):
    """All volumes are open and mounted, with their files, since before the login prompt."""
    m = host.machine
    login = m.wait_for_login()
    prompt = host.seconds_of_unit("serial-getty@ttyS0.service")
    assert host.mounted(VOLUMES) == set(VOLUMES), host.states()
    mounted = {name: host.seconds_of_unit(f"srv-{name}.mount") for name in VOLUMES}
    assert all(at and at <= prompt for at in mounted.values()), (prompt, mounted)
    host.wait_up()
    assert set(host.states().values()) == {"unlocked"}, host.states()
    assert_files_are_there(host)
    s.log(f"login prompt {login:.1f} s after power-on; last volume mounted "
          f"{prompt - max(mounted.values()):.1f} s before it")


def assert_files_are_there(host, names=VOLUMES):
    text = host.machine.must("cat " + " ".join(f"/srv/{name}/file" for name in names))
    assert text == "".join(f"kept by {name}\n" for name in names), text


def assert_clean_shutdown(host):
    host.machine.shut_down()
    console = host.machine.console()
    assert "Power down" in console
    for trouble in ["is busy", "Failed unmounting", "Could not detach", "Failed to finalize"]:
        assert trouble not in console, console[-3000:]


@scenario(timeout=900, host=True)
def volumes_open_before_login_twice_in_a_row(s):
    """After a power cut and again after a clean shutdown, all volumes are mounted before the login prompt."""
    host = s.host(resume=False)
    for _ in range(2):
        host.machine.boot()
        assert_open_before_login(s, host)
        assert host.machine.wait_ready() == "running", host.machine.must("systemctl --failed")
        assert_clean_shutdown(host)


@scenario(host=True)
def plugged_volume_opens_by_itself(s):
    """A volume that is pulled out becomes absent, and opens and mounts by itself when it is back."""
    host = s.host()
    m, disk = host.machine, host.machine.disk("data7")
    host.unmount(["data7"])
    m.unplug(disk)
    s.log(f"absent after {host.wait_states({'data7': 'absent'}):.1f} s")
    m.wait_until("! dmsetup info data7")
    m.plug(disk)
    s.log(f"open after {host.wait_states({'data7': 'unlocked'}):.1f} s")
    m.wait_until("mountpoint -q /srv/data7")
    assert_files_are_there(host)


@scenario(host=True)
def volume_pulled_out_in_use_is_cleaned_up(s):
    """A volume that is pulled out while mounted is reported, and its mapping goes with its mount."""
    host = s.host()
    m = host.machine
    m.unplug(m.disk("data1"))
    host.wait_states({"data1": "absent"})
    m.run("umount /srv/data1")
    m.wait_until("! mountpoint -q /srv/data1 && ! dmsetup info data1")
    others = VOLUMES[1:]
    assert_files_are_there(host, others)
    assert all(host.states()[name] == "unlocked" for name in others), host.states()


@scenario(host=True)
def admin_locks_and_unlocks(s):
    """Volumes lock and unlock over D-Bus; one that is mounted is refused as busy and stays open."""
    host = s.host()
    busy = host.lock(["data1"], must=False)
    assert busy[0].result == "failed" and busy[0].error.endswith("Busy"), busy
    assert_files_are_there(host)
    host.unmount(VOLUMES)
    s.log("locked: " + ", ".join(f"{i.duration:.2f} s" for i in host.lock(VOLUMES)))
    assert not host.mappings() & set(VOLUMES)
    assert set(host.states().values()) == {"locked"}
    s.log("unlocked: " + ", ".join(f"{i.duration:.2f} s" for i in host.unlock(VOLUMES)))
    host.machine.wait_until(" && ".join(f"mountpoint -q /srv/{name}" for name in VOLUMES))
    assert_files_are_there(host)


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
    host.unmount(VOLUMES)
    host.lock(VOLUMES)
    host.unlock(VOLUMES)


@scenario(timeout=900, host=True)
def kill_during_unlock_leaves_open_or_locked(s):
    """Each process is killed at several moments of an unlock of 8; the next unlock completes."""
    host = s.host()
    host.unmount(VOLUMES)
    # Mounting by systemd would make volumes busy between the rounds.
    host.machine.must("sed -i '/^.dev.mapper/d' /etc/fstab; systemctl daemon-reload")
    for program in PROGRAMS:
        for delay in (0.05, 0.3, 0.8):
            kill_once(s, host, program, delay)


def kill_once(s, host, program, delay):
    host.lock(VOLUMES)
    host.machine.must(
        f"busctl call org.coffer.Agent1 /org/coffer/Agent1 org.coffer.Agent1.Manager UnlockAll 'a{{sv}}' 0; "
        f"sleep {delay}; systemctl kill --signal=KILL {program}")
    host.wait_up()
    states = settled_states(host)
    assert set(states.values()) <= {"unlocked", "locked", "failed"}, states
    mapped = host.mappings() & set(VOLUMES)
    assert mapped == {name for name, state in states.items() if state == "unlocked"}, (mapped, states)
    host.unlock(VOLUMES)
    assert set(host.states().values()) == {"unlocked"}
    s.log(f"{program} killed after {delay} s: {len(mapped)} were open before the next unlock")


def settled_states(host):
    """The states once no volume is between two of them."""
    host.machine.wait_until(
        "! busctl --json=short call org.coffer.Agent1 /org/coffer/Agent1 org.coffer.Agent1.Manager ListVolumes "
        "'a{sv}' 0 | grep -E '\"(un)?locking\"'", timeout=90)
    return host.states()


@scenario(timeout=600, long=True, host=True)
def power_cut_during_unlock_at_boot(s):
    """The power goes at some moment of the boot; the next boot opens everything."""
    host = s.host(resume=False)
    for seconds in (3, 5, 6, 7, 8):
        host.machine.boot()
        host.machine.run(f"sleep {seconds / 10}", timeout=240)
        host.machine.cut_power()
    host.machine.boot()
    assert_open_before_login(s, host)
