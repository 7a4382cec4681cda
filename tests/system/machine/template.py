# SPDX-License-Identifier: Apache-2.0
"""A guest that was booted once and frozen, from which any number of others resume in a second.

Its RAM lies in a file that every instance maps privately, so that what one writes no other sees;
the rest of its state is a small file of QEMU's.
"""

import subprocess

from . import cache, qemu

# Modules that scenarios need: loading them once here saves that time in each.
WARM_UP = """
systemctl is-system-running --wait
modprobe -a dm_crypt virtio_scsi sd_mod loop xts aesni_intel
cryptsetup --version
udevadm settle
sync
sysctl -qw vm.drop_caches=3
"""


def folder(image, accel, say):
    """The folder with root.qcow2, ram and state of the template for this image."""
    key = cache.digest_of(image.key, *accel, qemu.KERNEL_ARGUMENTS, qemu.MEMORY_MB, WARM_UP)
    return cache.get("template", key, lambda made: freeze(image, accel, made), say)


def freeze(image, accel, made):
    from .machine import Machine  # the template is itself a machine
    machine = Machine(image, made / "boot", accel=accel, ram_file=made / "ram",
                      root_disk=made / "root.qcow2")
    try:
        machine.boot()
        machine.run(WARM_UP, timeout=240)
        machine.disconnect_agent()
        machine.qmp.command("stop")
        machine.qmp.migrate("migrate", f"exec:cat > '{made}/state'")
        machine.qmp.command("quit")
        machine.process.wait_exit(30)
    finally:
        machine.close()


def root_disk(folder):
    return f"file={folder}/root.qcow2,format=qcow2,snapshot=on"


def ram(folder):
    return f"memory-backend-file,mem-path={folder}/ram,share=off"


def make_overlay(disk, overlay):
    """A disk that starts as `disk` and keeps what is written to it."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(disk),
                    str(overlay)], check=True)
