# SPDX-License-Identifier: Apache-2.0
"""The worker alone, with a real kernel under it."""

import shutil
import subprocess
from pathlib import Path

from machine.machine import Disk
from scenario import Skipped, scenario


@scenario(long=True)
def worker_opens_and_closes_real_volumes(s):
    """The worker's own tests, those that need device-mapper among them, pass on a kernel that has it."""
    programs = Path(__file__).resolve().parents[3] / "build" / "dev" / "bin"
    names = ["worker_service_test", "coffer-worker"]
    if not all((programs / name).exists() for name in names):
        raise Skipped("worker_service_test is not built")
    m = s.resumed()
    m.plug(disk_of([programs / name for name in names], m.folder, "tests"))
    m.wait_until("test -e /dev/disk/by-label/tests")
    m.must("modprobe loop; modprobe dm_crypt; mkdir -p /run/tests; "
           "mount -o ro /dev/disk/by-label/tests /run/tests")
    run_tests(s, m, "")


@scenario()
def worker_in_its_sandbox_does_the_same(s):
    """The same tests pass on the worker and the reader that systemd starts, in their sandboxes."""
    names = ["worker_service_test", "coffer-worker", "coffer-reader"]
    programs = Path(__file__).resolve().parents[3] / "build" / "dev" / "bin"
    units = Path(__file__).resolve().parents[3] / "units"
    if not all((programs / name).exists() for name in names):
        raise Skipped("worker_service_test is not built")
    m = s.resumed()
    m.plug(disk_of([programs / name for name in names], m.folder, "tests"))
    m.wait_until("test -e /dev/disk/by-label/tests")
    m.must("modprobe loop; modprobe dm_crypt; mkdir -p /run/tests /usr/lib/coffer; "
           "mount -o ro /dev/disk/by-label/tests /run/tests; "
           "systemctl stop coffer-worker.socket coffer-deliver.socket coffer-reader.socket "
           "cofferd.service coffer-worker.service coffer-reader.service || true; "
           "cp /run/tests/coffer-worker /run/tests/coffer-reader /usr/lib/coffer/")
    for unit in ["coffer-worker.socket", "coffer-deliver.socket", "coffer-reader.socket",
                 "coffer-worker.service", "coffer-reader.service", "system-coffer.slice"]:
        m.push((units / unit).read_bytes(), f"/etc/systemd/system/{unit}")
    m.push((units / "sysusers.conf").read_bytes(), "/run/sysusers.conf")
    m.must("systemd-sysusers /run/sysusers.conf; systemctl daemon-reload; "
           "systemctl start coffer-worker.socket coffer-deliver.socket coffer-reader.socket")
    try:
        run_tests(s, m, "COFFER_TEST_SOCKETS=/run/coffer")
    finally:
        s.log(m.run("journalctl -b --no-pager -u 'coffer-*' | tail -40").output)


def run_tests(s, m, environment):
    done = m.run(f"{environment} TMPDIR=/tmp /run/tests/worker_service_test --gtest_brief=1 "
                 "--gtest_filter='ActivationTest.*'", timeout=240)
    s.log(done.output[-6000:])
    assert done.status == 0, "a test of the worker failed"
    assert "SKIPPED" not in done.output, "a test of the worker was skipped"
    left = m.must("dmsetup ls")
    assert "coffer-test" not in left, left


def disk_of(files, folder, label):
    """A disk whose file system holds the files, without their debug information."""
    stage = Path(folder) / f"{label}.d"
    stage.mkdir()
    for file in files:
        subprocess.run(["strip", "-o", stage / file.name, file], check=True)
    disk = Disk(Path(folder) / f"{label}.raw", label, 32)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-L", label, "-d", stage, disk.path], check=True)
    shutil.rmtree(stage)
    return disk
