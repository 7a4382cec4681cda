# SPDX-License-Identifier: Apache-2.0
"""FaultToken: the fault-injecting PKCS#11 module (tests/pkcs11_fault) between a host's vault and its token."""

import subprocess
from pathlib import Path

BUILT = "libcoffer-test-pkcs11-fault.so"
MODULE = "/usr/lib/coffer/test-pkcs11-fault.so"
SCRIPT = "/var/lib/coffer/vault/local/faults"

# The vault finds its token through the module from its next start on.
INSTALL = f"""
sed -i 's|^module *=.*|module = "{MODULE}"|' /etc/coffer/vault-local.toml
grep -q '^module = "{MODULE}"' /etc/coffer/vault-local.toml
mkdir -p /etc/systemd/system/coffer-vault@local.service.d
cat > /etc/systemd/system/coffer-vault@local.service.d/faults.conf <<'END'
[Service]
Environment=COFFER_TEST_PKCS11_FAULTS={SCRIPT}
END
systemctl daemon-reload
"""


class FaultToken:
    """The token of `host`, which suffers what it is told to; fault_script.h has the language.

    `build` is the folder where the module was built.
    """

    def __init__(self, host, build):
        self.machine = host.machine
        stripped = Path(self.machine.folder) / "fault.so"
        subprocess.run(["strip", "-o", stripped, build / "bin" / BUILT], check=True)
        self.machine.push(stripped.read_bytes(), MODULE, 0o755)
        self.machine.must(INSTALL)

    def suffer(self, *lines, tries_left=None):
        """The faults from now on; `tries_left` are those that the token still grants a wrong PIN."""
        pin = f"echo {tries_left} > {SCRIPT}.pin; chown coffer-vault: {SCRIPT}.pin; " \
            if tries_left is not None else ""
        text = "\\n".join(lines)
        self.machine.must(f"{pin}printf '{text}\\n' > {SCRIPT}.new; chown coffer-vault: {SCRIPT}.new; "
                          f"mv {SCRIPT}.new {SCRIPT}")

    def heal(self):
        """The token is as it should be again."""
        self.machine.must(f"rm -f {SCRIPT} {SCRIPT}.pin")

    def logins(self):
        """What came of each login since the module was installed: "good" or "bad"."""
        lines = self.machine.must(f"cat {SCRIPT}.log 2>/dev/null || true").splitlines()
        return [line.split()[1] for line in lines if line.startswith("login ")]
