# SPDX-License-Identifier: Apache-2.0
"""A guest that was booted once and frozen, from which any number of others resume in a second.

Its RAM lies in a file that every instance maps privately, so that what one writes no other sees;
the rest of its state is a small file of QEMU's, and each instance has its own copy of the disks.
"""

import shutil
import subprocess
from pathlib import Path

from . import cache, qemu

# Modules that scenarios need: loading them once here saves that time in each.
WARM_UP = """
systemctl is-system-running --wait
modprobe -a dm_crypt virtio_scsi sd_mod loop xts aesni_intel
cryptsetup --version
udevadm settle
"""
FREEZE = "udevadm settle; sync; sysctl -qw vm.drop_caches=3"


class Template:
    """A frozen guest of an image; made when it is first asked for, then cached.

    `prepare(machine)`, if given, is done to the booted guest before it is frozen; `key` stands for
    it (its source, say). `disks` are (serial, size_mb) of disks that are there from power-on.
    """

    def __init__(self, image, accel=None, prepare=None, key="", disks=(), say=lambda text: None):
        self.image = image
        self.accel = accel or qemu.accelerator(image)
        self.disks = list(disks)
        self._prepare = prepare
        digest = cache.digest_of(image.key, *self.accel, Path(qemu.__file__), WARM_UP, FREEZE, key,
                                 self.disks)
        kind = "prepared" if prepare else "booted"
        self.folder = cache.get(kind, digest, self._freeze, say)
        self.root_disk = self.folder / "root.qcow2"
        self.ram = self.folder / "ram"
        self.state = self.folder / "state"

    def copy_disk(self, serial, target):
        """Gives an instance its own copy of a disk."""
        subprocess.run(["cp", "--sparse=always", self.folder / f"{serial}.raw", target], check=True)

    def _freeze(self, made):
        from .machine import Machine  # which uses templates, but not for this
        machine = Machine(self.image, made, accel=self.accel, ram_file=made / "ram")
        try:
            for serial, size_mb in self.disks:
                machine.add_disk(serial, size_mb)
            machine.boot()
            machine.run(WARM_UP, timeout=240)
            if self._prepare:
                self._prepare(machine)
            machine.must(FREEZE, timeout=120)
            machine.disconnect_agent()
            machine.qmp.command("stop")
            machine.qmp.migrate("migrate", f"exec:cat > '{made}/state'")
            machine.qmp.command("quit")
            machine.process.wait_exit(30)
        except BaseException:
            machine.collect()
            failed = cache.root() / "template-failed"
            shutil.rmtree(failed, ignore_errors=True)
            failed.mkdir(parents=True)
            for log in made.glob("*.log"):
                shutil.copy(log, failed)
            raise
        finally:
            machine.close()


def make_overlay(disk, overlay):
    """A disk that starts as `disk` (raw or qcow2) and keeps what is written to it."""
    kind = "qcow2" if str(disk).endswith(".qcow2") else "raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", kind, "-b", str(disk),
                    str(overlay)], check=True)
