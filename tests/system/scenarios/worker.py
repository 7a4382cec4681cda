# SPDX-License-Identifier: Apache-2.0
"""The worker alone, with a real kernel under it."""

import re
import shutil
import subprocess
from pathlib import Path

from machine.machine import Disk
from scenario import Skipped, scenario


@scenario(long=True)
def worker_opens_and_closes_real_volumes(s):
    """The worker's own tests, those that need device-mapper among them, pass on a kernel that has it."""
    run_tests(s, machine_with(s, ["worker_service_test", "coffer-worker"]), "")


@scenario()
def worker_in_its_sandbox_does_the_same(s):
    """The same tests pass on the worker and the reader that systemd starts, in their sandboxes."""
    m = machine_with(s, ["worker_service_test"])
    m.must("systemctl start coffer-worker.socket coffer-deliver.socket coffer-reader.socket")
    try:
        run_tests(s, m, "COFFER_TEST_SOCKETS=/run/coffer")
    finally:
        s.log(m.run("journalctl -b --no-pager -u 'coffer-*' | tail -40").output)


def machine_with(s, names):
    """A guest that has these programs of the build under /run/tests."""
    programs = [s.build / "bin" / name for name in names]
    missing = [program.name for program in programs if not program.exists()]
    if missing or not s.image.has_coffer:
        raise Skipped(f"not built: {missing or 'Coffer'}")
    m = s.resumed()
    m.plug(disk_of(programs, m.folder, "tests"))
    m.wait_until("test -e /dev/disk/by-label/tests")
    m.must("modprobe loop; modprobe dm_crypt; mkdir -p /run/tests; "
           "mount -o ro /dev/disk/by-label/tests /run/tests")
    return m


def run_tests(s, m, environment):
    done = m.run(f"{environment} TMPDIR=/tmp /run/tests/worker_service_test --gtest_brief=1 "
                 "--gtest_filter='ActivationTest.*'", timeout=240)
    s.log(done.output[-6000:])
    assert done.status == 0, "a test of the worker failed"
    passed = re.search(r"\[  PASSED  \] (\d+) test", done.output)
    assert passed and int(passed[1]) > 0, "no test of the worker was run"
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
