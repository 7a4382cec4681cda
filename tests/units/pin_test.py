#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The vault starts with its PIN, with an encrypted PIN that is no good, and without one.

Runs systemd as the first process of namespaces of its own, with coffer-pin@.service as it is installed and
of coffer-vault@.service what gives it the credential; the vault itself is a line of shell that says which
PIN it was given, and ends when told, so that systemd starts it again by itself."""
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile

UNITS = pathlib.Path(__file__).resolve().parents[2] / "units"
SYSTEMD = "/lib/systemd/systemd"
SKIPPED = 77
START_SECONDS = 30
CREDENTIALS = "/etc/coffer/credentials"

VAULT_KEEPS = re.compile(r"\[|Wants=coffer-pin|After=coffer-pin|StartLimit|SetCredential|LoadCredential"
                         r"|Restart")

INSIDE = """set -e
mount --make-rprivate /; mount --make-rshared /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind {folder}/var /var/lib/systemd
printf 246810 | systemd-creds encrypt --with-key=host --name=pin - {folder}/good 2>/dev/null
cp {folder}/good {folder}/credentials/vault-local.pin
exec env -i PATH="$PATH" container=test SYSTEMD_UNIT_PATH={folder}/units \\
    {systemd} --system --unit=coffer-vault@local.service --log-target=null --show-status=no
"""


def write_units(folder: pathlib.Path) -> None:
    """The units under test; what hides or names folders of the host gives way to the scratch folder."""
    units = folder / "units"
    units.mkdir()
    pin = (UNITS / "coffer-pin@.service").read_text().replace(CREDENTIALS, f"{folder}/credentials")
    pin = re.sub(r"(?m)^(TemporaryFileSystem|ProtectHome|RequiresMountsFor)=.*\n", "", pin)
    (units / "coffer-pin@.service").write_text(pin)
    vault = (UNITS / "coffer-vault@.service").read_text().replace(CREDENTIALS, f"{folder}/credentials")
    kept = [line for line in vault.splitlines() if VAULT_KEEPS.match(line)]
    kept.insert(kept.index("[Service]"), "DefaultDependencies=no")
    kept.append(f"ExecStart=/bin/sh -c 'cat $$CREDENTIALS_DIRECTORY/pin > {folder}/said; "
                f"read line < {folder}/told; exit 1'")
    (units / "coffer-vault@.service").write_text("\n".join(kept) + "\n")


def given_pin(said: int) -> str | None:
    """What the next vault to start was given; None when none starts in time."""
    if not select.select([said], [], [], START_SECONDS)[0]:
        return None
    text = os.read(said, 100).decode()
    return text.strip()


def check(folder: pathlib.Path) -> list[str]:
    for name in ("said", "told"):
        os.mkfifo(folder / name)
    # Open at both ends: neither side waits for the other.
    said = os.open(folder / "said", os.O_RDWR | os.O_NONBLOCK)
    told = os.open(folder / "told", os.O_RDWR)
    pin = folder / "credentials/vault-local.pin"
    good = folder / "good"

    def replace(content: bytes) -> None:
        (folder / "new").write_bytes(content)
        os.replace(folder / "new", pin)

    steps = [("a good credential", lambda: None, "246810"),
             ("one that does not decrypt", lambda: replace(b"not made here\n"), ""),
             ("none", pin.unlink, ""),
             ("one cut short", lambda: replace(good.read_bytes()[:40]), ""),
             ("a good one again", lambda: replace(good.read_bytes()), "246810")]
    failed = []
    for step, (name, prepare, expected) in enumerate(steps):
        if step > 0:
            prepare()
            os.write(told, b"end\n")
        given = given_pin(said)
        print(f"with {name}: the vault " + ("does not start" if given is None else
                                           "has a PIN" if given else "has no PIN"))
        if given != expected:
            failed.append(name)
        if given is None:
            break
    return failed


def scratch_cgroup() -> pathlib.Path:
    """A cgroup for the inner systemd, whose own ones stand below it and go with it."""
    root = subprocess.run(["findmnt", "--types", "cgroup2", "--noheadings", "--output", "TARGET"], text=True,
                          capture_output=True, check=True).stdout.split()[0]
    own = next(line[3:] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()
               if line.startswith("0::"))
    folder = pathlib.Path(root + own) / f"coffer-pin-test-{os.getpid()}"
    folder.mkdir()
    return folder


def end(inside: subprocess.Popen, cgroup: pathlib.Path) -> None:
    """Ends the inner systemd, and with it, as the first of its processes, all the others."""
    children = pathlib.Path(f"/proc/{inside.pid}/task/{inside.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    inside.wait(START_SECONDS)
    for folder, _, _ in os.walk(cgroup, topdown=False):
        os.rmdir(folder)


def main() -> int:
    for needed in (SYSTEMD, "/usr/bin/systemd-creds", "/usr/bin/unshare", "/var/lib/systemd"):
        if not os.path.exists(needed):
            print(f"skipped: no {needed}")
            return SKIPPED
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup"]
    trial = subprocess.run([*namespaces, "mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"],
                           capture_output=True, text=True, timeout=20)
    if trial.returncode != 0:
        print(f"skipped: no namespaces for a systemd of its own: {trial.stderr.strip()}")
        return SKIPPED
    try:
        cgroup = scratch_cgroup()
    except (OSError, IndexError, StopIteration, subprocess.SubprocessError) as error:
        print(f"skipped: no cgroup for a systemd of its own: {error}")
        return SKIPPED
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # the inner systemd has a /dev of its own
        folder = pathlib.Path(name)
        for part in ("var", "credentials"):
            (folder / part).mkdir()
        write_units(folder)
        inside = subprocess.Popen(
            [*namespaces, "sh", "-c", INSIDE.format(folder=folder, systemd=SYSTEMD)],
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: (cgroup / "cgroup.procs").write_text(str(os.getpid())))
        try:
            failed = check(folder)
        finally:
            end(inside, cgroup)
    for name in failed:
        print(f"FAILED with {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
