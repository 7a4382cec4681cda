# SPDX-License-Identifier: Apache-2.0
"""What happens when the token is not as it should be: the boot goes on, and each volume says why."""

from scenario import VOLUMES, scenario

# The boot goes on after this long without a token, whatever happens; by the configuration.
BOOT_DEADLINE_SECONDS = 60
TOKENS = "/var/lib/coffer/vault/local/tokens"


def assert_boot_goes_on(s, host):
    """The login prompt comes; no volume is open; each gives a named, retryable reason."""
    m = host.machine
    m.boot()
    login = m.wait_for_login()
    waited = host.seconds_of_unit("coffer-boot.service")
    s.log(f"login prompt {login:.1f} s after power-on; coffer-boot.service done at {waited:.1f} s")
    assert waited < BOOT_DEADLINE_SECONDS + 30
    host.wait_up()
    volumes = host.volumes()
    for name in VOLUMES:
        error = volumes[name]["LastError"][0]
        assert volumes[name]["State"] in ("locked", "failed"), volumes[name]
        assert ".Error." in error, volumes[name]
    assert not host.mounted(VOLUMES)
    assert m.run("pgrep -fa systemd-(tty-)?ask-password").status != 0, "something prompts"
    return {volumes[name]["LastError"][0].rpartition(".")[2] for name in VOLUMES}


def assert_opens_when_back(s, host):
    s.log(f"open {host.wait_states({n: 'unlocked' for n in VOLUMES}):.1f} s after the token's return")
    host.machine.wait_until(" && ".join(f"mountpoint -q /srv/{name}" for name in VOLUMES))


def break_before_boot(s, script):
    """A host whose `script` ran before it was shut down, and which is off."""
    host = s.host()
    host.machine.must(script)
    host.machine.shut_down()
    return host


@scenario(timeout=900, host=True)
def boot_without_token(s):
    """No token at boot: the boot goes on, each volume says why, and opens when the token is back."""
    host = break_before_boot(s, f"systemctl stop coffer-vault@local.service; mv {TOKENS} {TOKENS}.away; "
                                f"install -d -m 700 -o coffer-vault -g coffer-vault {TOKENS}")
    s.log(f"errors: {assert_boot_goes_on(s, host)}")
    host.machine.must(f"rmdir {TOKENS}; mv {TOKENS}.away {TOKENS}")
    assert_opens_when_back(s, host)


@scenario(host=True)
def vault_killed_in_the_middle(s):
    """The vault is killed while it unwraps: what failed opens by the next request."""
    host = s.host()
    host.unmount(VOLUMES)
    host.lock(VOLUMES)
    m = host.machine
    m.must("busctl call org.coffer.Agent1 /org/coffer/Agent1 org.coffer.Agent1.Manager UnlockAll 'a{sv}' 0; "
           "systemctl kill --signal=KILL coffer-vault@local.service")
    m.wait_until("systemctl is-active coffer-vault@local.socket")
    host.unlock(VOLUMES, must=False)
    host.unlock(VOLUMES)


@scenario(timeout=900, host=True)
def boot_with_wrong_pin(s):
    """A wrong PIN at boot: it is tried once, each volume says so, and all opens with the right one."""
    pin = "/etc/coffer/credentials/vault-local.pin"
    host = break_before_boot(s, f"""set -e
        cp -a {pin} {pin}.kept
        if systemd-creds decrypt --name=pin {pin} /dev/null 2>/dev/null
        then printf 0000-wrong | systemd-creds encrypt --name=pin - {pin}
        else printf 0000-wrong > {pin}
        fi""")
    errors = assert_boot_goes_on(s, host)
    assert errors <= {"HsmPinIncorrect", "HsmLoginNeeded"}, errors
    host.machine.must(f"mv {pin}.kept {pin}; systemctl restart coffer-vault@local.service")
    assert_opens_when_back(s, host)
