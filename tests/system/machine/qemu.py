# SPDX-License-Identifier: Apache-2.0
"""Starts QEMU: which accelerator to use, its command line, and a process that cannot outlive us."""

import atexit
import ctypes
import os
import signal
import subprocess
import tempfile
from pathlib import Path

from . import cache
from .deadline import Deadline, TimedOut

MEMORY_MB = 1024
PROCESSORS = 2

# TCG's 16-byte compare-and-exchange is wrong in QEMU 7.2: with cx16 guests crash at random.
TCG = ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "Nehalem,+aes,+pclmulqdq,-cx16"]
KVM = ["-accel", "kvm", "-cpu", "host"]

KERNEL_ARGUMENTS = ("root=/dev/vda rw console=ttyS0 quiet loglevel=5 panic=-1 net.ifnames=0 "
                    "mitigations=off random.trust_cpu=on audit=0 selinux=0 apparmor=0 "
                    "systemd.show_status=0 nowatchdog rcupdate.rcu_expedited=1 nokaslr")


def accelerator(image):
    """The arguments for KVM where a guest really boots with it, for TCG elsewhere.

    /dev/kvm proves nothing: on some machines it opens, and the guest then stops for ever. So a
    kernel is booted with it once per boot of this machine, with a deadline.
    """
    if os.environ.get("COFFER_MACHINE_ACCEL") in ("tcg", "kvm"):
        return KVM if os.environ["COFFER_MACHINE_ACCEL"] == "kvm" else TCG
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return TCG
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = cache.root() / "accelerator"
    with cache.locked("accelerator"):
        if not known.exists() or not known.read_text().startswith(boot_id):
            known.write_text(f"{boot_id} {'kvm' if kvm_boots(image) else 'tcg'}\n")
        return KVM if known.read_text().split()[1] == "kvm" else TCG


def kvm_boots(image, seconds=8):
    """True if the initrd's first line appears in time on a guest with KVM."""
    with tempfile.TemporaryDirectory(prefix="coffer-kvm-") as folder:
        console = Path(folder) / "console"
        process = Process([*KVM, "-machine", "q35", "-m", "256", "-nodefaults", "-display", "none",
                           "-serial", f"file:{console}", "-no-reboot",
                           "-kernel", image.kernel, "-initrd", image.initrd,
                           "-append", "console=ttyS0 panic=-1"], Path(folder) / "qemu.log")
        deadline = Deadline(seconds, "boot with KVM")
        try:
            while process.running():
                if console.exists() and b"coffer-initrd: up" in console.read_bytes():
                    return True
                deadline.pause()
        except TimedOut:
            pass
        finally:
            process.kill()
    return False


class Process:
    """A QEMU process. It is killed when this process ends, however it ends."""

    def __init__(self, arguments, log):
        command = ["qemu-system-x86_64", *(str(a) for a in arguments)]
        with open(log, "ab") as output:
            output.write((" ".join(command) + "\n").encode())
            output.flush()
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,
                                             stderr=output, preexec_fn=die_with_parent)
        self._log = log
        atexit.register(self.kill)

    def running(self):
        return self._process.poll() is None

    def kill(self):
        """What pulling the plug is to a real machine."""
        self._process.kill()
        self._process.wait()
        atexit.unregister(self.kill)

    def wait_exit(self, seconds):
        deadline = Deadline(seconds, "power-off of the guest")
        while self.running():
            deadline.pause()
        atexit.unregister(self.kill)

    def log(self):
        return Path(self._log).read_text(errors="replace")


def die_with_parent():
    """For preexec_fn: the kernel kills the child when the thread that started it is gone."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def arguments(accel, image, folder, console, root_disk, memory, extra=()):
    """The command line of a guest whose sockets lie in `folder`."""
    return [*accel, "-machine", "q35,memory-backend=ram", "-m", str(MEMORY_MB),
            "-smp", str(PROCESSORS), "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot", "-object", f"{memory},id=ram,size={MEMORY_MB}M",
            "-kernel", image.kernel, "-initrd", image.initrd, "-append", KERNEL_ARGUMENTS,
            "-drive", f"file={root_disk},format=qcow2,if=none,id=root,cache=unsafe",
            "-device", "virtio-blk-pci,drive=root",
            "-device", "virtio-scsi-pci,id=scsi",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,path={folder}/agent.sock,server=on,wait=off",
            "-device", "virtserialport,chardev=agent,name=org.coffer.test",
            "-chardev", f"socket,id=qmp,path={folder}/qmp.sock,server=on,wait=off",
            "-mon", "chardev=qmp,mode=control",
            "-serial", f"file:{console}", *extra]
