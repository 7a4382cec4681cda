# SPDX-License-Identifier: Apache-2.0
"""What happens when the token is not as it should be: the boot goes on, and each volume says why."""

from fault_token import SCRIPT, FaultToken
from scenario import VOLUMES, scenario
from scenarios.boot import assert_recorded

# By boot.deadline_seconds as it is by default; docs/operations.md has the figure.
DEADLINE_SECONDS, PROMPT_SECONDS = 60, 65
# That is from the start of coffer-boot.service; emulated on two cores, the steps after it take their time.
EMULATED_SECONDS = 10
TOKENS = "/var/lib/coffer/vault/local/tokens"
PIN = "/etc/coffer/credentials/vault-local.pin"

# Notes on /run whether anything asked for a password, from early in the boot on.
ASKED = {
    "coffer-test-asked.path": """
[Unit]
DefaultDependencies=no
[Path]
PathChanged=/run/systemd/ask-password
MakeDirectory=yes
""",
    "coffer-test-asked.service": """
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=touch /run/asked
"""}


def watch_questions(m):
    """From the next boot on, the guest notes whether anything has asked for a password."""
    for name, text in ASKED.items():
        m.push(text, f"/etc/systemd/system/{name}")
    m.must("systemctl add-wants sysinit.target coffer-test-asked.path")


def assert_nothing_asked(m):
    assert m.run("test -e /run/asked").status == 1, "something has asked for a password"
    # It would have been noted.
    m.run("systemd-ask-password --no-tty --timeout=1 'Is this noted?'")
    m.wait_until("test -e /run/asked")


def boot_goes_on(s, host):
    """The power goes, and the machine boots: the login prompt comes in time, nothing prompts, and no
    volume is open. Returns the names of the errors that they give."""
    m = host.machine
    watch_questions(m)
    # The lines are as they were printed.
    assert m.must(f"grep -c device-timeout={DEADLINE_SECONDS}s /etc/fstab; sync").strip() == str(len(VOLUMES))
    m.cut_power()
    m.boot()
    login = m.wait_for_login()
    prompt = host.seconds_of_unit("serial-getty@ttyS0.service")
    started = host.seconds_of_unit("coffer-boot.service", "InactiveExitTimestampMonotonic")
    waited = host.seconds_of_unit("coffer-boot.service")
    s.log(f"login prompt {login:.1f} s after power-on; {prompt - started:.1f} s after the start of "
          f"coffer-boot.service, which waited for {waited - started:.1f} s")
    assert waited - started <= PROMPT_SECONDS
    assert prompt - started <= PROMPT_SECONDS + EMULATED_SECONDS
    host.wait_up()
    volumes = host.volumes()
    for name in VOLUMES:
        error = volumes[name]["LastError"][0]
        assert volumes[name]["State"] in ("locked", "failed"), volumes[name]
        assert ".Error." in error, volumes[name]
    assert not host.mounted(VOLUMES)
    assert_nothing_asked(m)
    errors = {volumes[name]["LastError"][0].rpartition(".")[2] for name in VOLUMES}
    s.log(f"errors: {errors}: {volumes['data1']['LastError'][1]}")
    return errors


def assert_opens_when_back(s, host):
    """All volumes open and mount by themselves: nobody asks for it here."""
    s.log(f"open {host.wait_states({n: 'unlocked' for n in VOLUMES}):.1f} s after the token's return")
    host.machine.wait_until(" && ".join(f"mountpoint -q /srv/{name}" for name in VOLUMES))


@scenario(timeout=900, host=True)
def boot_without_token(s):
    """No token at boot: the boot goes on, each volume says why, and opens when the token is back."""
    host = s.host()
    host.machine.must(f"systemctl stop coffer-vault@local.service; mv {TOKENS} {TOKENS}.away; "
                      f"install -d -m 700 -o coffer-vault -g coffer-vault {TOKENS}")
    errors = boot_goes_on(s, host)
    assert errors == {"HsmAbsent"}, errors
    host.machine.must(f"rmdir {TOKENS}; mv {TOKENS}.away {TOKENS}")
    assert_opens_when_back(s, host)


@scenario(timeout=900, host=True)
def boot_with_removed_token(s):
    """A token pulled out of its slot: HsmAbsent at boot and while running; volumes open when it is back."""
    host = s.host()
    token = FaultToken(host, s.build)
    host.machine.must("systemctl restart coffer-vault@local.service")
    # Pulled out under the running vault first: what is open stays open, the rest says why.
    host.unmount(["data1"])
    host.lock(["data1"])
    token.suffer("removed")
    item = host.unlock(["data1"], must=False)[0]
    assert item.result == "failed" and item.error.endswith("HsmAbsent"), item
    assert all(state == "unlocked" for name, state in host.states().items() if name != "data1")

    errors = boot_goes_on(s, host)
    assert errors == {"HsmAbsent"}, errors
    token.heal()
    assert_opens_when_back(s, host)


@scenario(timeout=900, host=True)
def boot_with_locked_pin(s):
    """A locked PIN at boot: it is not tried, each volume says so, and opens when the PIN is unlocked."""
    host = s.host()
    token = FaultToken(host, s.build)
    token.suffer("pin-tries 3", tries_left=0)
    errors = boot_goes_on(s, host)
    assert errors == {"HsmPinLocked"}, errors
    assert token.logins() == [], token.logins()
    token.suffer("pin-tries 3", tries_left=3)
    assert_opens_when_back(s, host)
    assert set(token.logins()) == {"good"}, token.logins()


@scenario(timeout=900, host=True)
def boot_with_wrong_pin(s):
    """A wrong PIN at boot: it is tried once, each volume says so, and all opens with the right one."""
    host = s.host()
    token = FaultToken(host, s.build)
    token.suffer("pin-tries 3", tries_left=3)
    host.machine.must(f"cp -a {PIN} {PIN}.kept; printf 0000-wrong | systemd-creds encrypt --name=pin - {PIN}")
    errors = boot_goes_on(s, host)
    assert errors == {"HsmPinIncorrect"}, errors
    host.machine.must("systemctl restart coffer-vault@local.service cofferd.service")
    host.wait_up()
    item = host.unlock(["data1"], must=False)[0]
    assert item.error.endswith("HsmPinIncorrect"), item
    assert token.logins() == ["bad"], token.logins()
    host.machine.must(f"mv {PIN}.kept {PIN}; systemctl restart coffer-vault@local.service")
    assert_opens_when_back(s, host)
    assert set(token.logins()[1:]) == {"good"}, token.logins()


@scenario(host=True)
def vault_killed_in_the_middle(s):
    """The vault dies between two keys of an unlock of 8: what is open stays so, the rest opens by itself."""
    host = s.host()
    token = FaultToken(host, s.build)
    host.unmount(VOLUMES)
    host.lock(VOLUMES)
    m = host.machine
    m.must("systemctl restart coffer-vault@local.service; busctl call org.coffer.Agent1 "
           "/org/coffer/Agent1/provider/local org.coffer.Agent1.KeyProvider Test 'a{sv}' 0 || true")
    host.wait_token()
    # So slow that the vault answers with what it has, and is asked for the rest, before it dies.
    token.suffer("C_Decrypt delay 1500", "C_Decrypt@5 crash")
    before = host.audit()[-1][0]
    job = host.call("Manager", "UnlockMany", f"asa{{sv}} {len(VOLUMES)} {' '.join(VOLUMES)} 0")
    m.wait_until("test $(systemctl show -p NRestarts --value coffer-vault@local.service) -ge 1")
    m.must(f"rm {SCRIPT}")
    items = host.wait_job(job, must=False)
    failed = [item for item in items if item.result == "failed"]
    errors = {item.error.rpartition(".")[2] for item in failed}
    s.log(f"{len(failed)} of {len(items)} failed at first: {errors}")
    assert 0 < len(failed) < len(VOLUMES) and errors <= {"HsmAbsent", "HsmTimeout"}, items
    seconds = host.wait_states({name: "unlocked" for name in VOLUMES})
    s.log(f"all open {seconds:.1f} s later, without another request")
    assert_recorded(host, before)


@scenario(timeout=900, host=True)
def boot_with_vault_that_dies(s):
    """The vault dies whenever it uses a key at boot: the boot goes on, and all opens when it no longer does."""
    host = s.host()
    token = FaultToken(host, s.build)
    token.suffer("C_Decrypt crash")
    errors = boot_goes_on(s, host)
    assert errors == {"HsmAbsent"}, errors
    restarts = int(host.machine.must("systemctl show -p NRestarts --value coffer-vault@local.service"))
    s.log(f"the vault was started anew {restarts} times")
    assert restarts > 0
    token.heal()
    assert_opens_when_back(s, host)
