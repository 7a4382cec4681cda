# SPDX-License-Identifier: Apache-2.0
"""Machine: one Debian guest, from power-on to power-off, and what one can do to it."""

import time
from collections import namedtuple
from pathlib import Path

from . import qemu
from .agent import Agent, AgentError
from .deadline import Deadline, TimedOut
from .qmp import Qmp, QmpError
from .template import make_overlay

# Emulated on two busy cores a boot takes 20 to 60 s. Deadlines only have to end what hangs.
BOOT_SECONDS = 240
# An emulated kernel stands still now and then half a second after it began, where its processors meet.
# Nothing of the guest has run then; what shows that it has is the first line of its initrd.
INITRD_SECONDS, INITRD_LINE, POWER_ONS = 60, "coffer-initrd: up", 3
SHUTDOWN_SECONDS = 120

Result = namedtuple("Result", "status output")


class MachineError(Exception):
    """The machine did not do what it should; the message holds what it said last."""


class CommandFailed(MachineError):
    """A command that had to succeed in the guest did not."""


class Disk:
    """A raw, sparse disk of the host that a guest finds again by its serial number."""

    def __init__(self, path, serial, size_mb):
        self.path = Path(path)
        self.serial = serial
        if not self.path.exists():
            with open(self.path, "wb") as file:
                file.truncate(size_mb * 1024 * 1024)

    @property
    def by_id(self):
        """Where the guest sees it."""
        return f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{self.serial}"


class Machine:
    """A guest that boots `image`, with its disks, sockets and logs in `folder`.

    boot() starts it from power-off; resume() continues the frozen guest of `template`. Both write to
    a root disk in the folder, which lasts, so a resumed machine can be cut off and booted again. With
    a template the disks start as they were when it was frozen. Use it as a context: at the end a
    guest that still runs is cut off.
    """

    def __init__(self, image, folder, template=None, accel=None, ram_file=None,
                 say=lambda text: None):
        self.image = image
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = None
        self.qmp = None
        self.boots = 0
        self.boot_started = None
        self.say = say
        self._accel = accel or qemu.accelerator(image)
        self._template = template
        self._ram_file = ram_file
        self._root_disk = self.folder / "root.qcow2"
        self._agent = None
        self._disks = {}  # serial -> Disk, those that are attached or will be at power-on
        self._slots = {}  # serial -> number of its place on the SCSI bus
        for serial, size_mb in template.disks if template else []:
            template.copy_disk(serial, self.folder / f"{serial}.raw")
            self.add_disk(serial, size_mb)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- power ---------------------------------------------------------------------------------

    def boot(self):
        """Powers the machine on; returns as soon as its initrd runs. run() waits for the guest.

        A kernel that stands still before that is switched off and on again.
        """
        self._make_root_disk()
        memory = "memory-backend-ram"
        if self._ram_file:
            memory = f"memory-backend-file,mem-path={self._ram_file},share=on"
        for _ in range(POWER_ONS):
            self._start(memory, self._disks.values(), [])
            if self._initrd_runs():
                return
            self.say(f"the kernel stood still; switched off and on again: {self.console()[-200:]}")
            self.cut_power()
        raise MachineError(f"the kernel stood still {POWER_ONS} times")

    def _initrd_runs(self):
        deadline = Deadline(INITRD_SECONDS, "initrd")
        while INITRD_LINE not in self.console():
            self._require_running()
            try:
                deadline.pause()
            except TimedOut:
                return False
        return True

    def resume(self):
        """Continues the frozen guest, once; about a second to a command's answer."""
        frozen = self._template
        if frozen is None or self._root_disk.exists():
            raise MachineError("only a new machine that has a template can resume")
        self._make_root_disk()
        there = [self._disks[serial] for serial, _ in frozen.disks]
        self._start(f"memory-backend-file,mem-path={frozen.ram},share=off", there,
                    ["-incoming", "defer"])
        self.qmp.migrate("migrate-incoming", f"exec:cat '{frozen.state}'")
        self.qmp.command("cont")
        self._connect().wake()
        for disk in self._disks.values():
            if disk not in there:
                self._plug(disk)

    def _make_root_disk(self):
        if not self._root_disk.exists():
            base = self._template.root_disk if self._template else self.image.disk
            make_overlay(base, self._root_disk)

    def cut_power(self):
        """What the guest had not yet written to its disks is lost; nothing else is."""
        self._require_running()
        self.process.kill()
        self._disconnect()

    def cut_power_when(self, script, timeout=BOOT_SECONDS):
        """The guest's power goes the moment a script of it ends, with nothing more written or said."""
        self._leave(f"({{ {script}; }} >/dev/null 2>&1; echo b >/proc/sysrq-trigger) >/dev/null 2>&1 </dev/null &",
                    timeout)

    def shut_down(self, timeout=SHUTDOWN_SECONDS):
        """Clean power-off from within, as an admin does it."""
        self._leave("systemctl poweroff --no-block", timeout)

    def reboot(self, timeout=SHUTDOWN_SECONDS):
        """Clean shutdown and a new boot of the same disks."""
        self._leave("systemctl reboot --no-block", timeout)
        self.boot()

    def _leave(self, script, timeout):
        """Runs a script by which the power goes, maybe before the guest's agent has answered."""
        self._require_running()
        try:
            self.must(script)
        except CommandFailed:
            raise
        except (AgentError, MachineError, TimedOut):
            pass  # If the power stays on, that is seen now.
        self.wait_power_off(timeout)

    def wait_power_off(self, timeout=SHUTDOWN_SECONDS):
        try:
            self.process.wait_exit(timeout)
        except TimedOut as error:
            raise MachineError(f"{error}; console:\n{self.console()[-3000:]}") from error
        self._disconnect()

    def running(self):
        return self.process is not None and self.process.running()

    def close(self):
        """Ends the guest if it still runs."""
        if self.process is not None:
            self.process.kill()
        self._disconnect()

    def _start(self, memory, disks, extra):
        if self.running():
            raise MachineError("the machine is on already")
        self.boots += 1
        for name in ["agent.sock", "qmp.sock"]:
            (self.folder / name).unlink(missing_ok=True)
        self.boot_started = time.monotonic()
        extra = [a for disk in disks for a in self._disk_arguments(disk)] + extra
        self.process = qemu.Process(
            qemu.arguments(self._accel, self.image, self.folder, self.console_path(),
                           self._root_disk, memory, extra), self.folder / "qemu.log")
        deadline = Deadline(30, "start of QEMU")
        while True:
            try:
                self.qmp = Qmp(self.folder / "qmp.sock")
                return
            except (OSError, QmpError):
                self._require_running()
                deadline.pause(0.02)

    def _require_running(self):
        if not self.running():
            log = self.process.log()[-2000:] if self.process else "it was never started"
            raise MachineError(f"the machine is off: {log}\nconsole:\n{self.console()[-3000:]}")

    # --- commands and files --------------------------------------------------------------------

    def run(self, script, timeout=60):
        """Runs a bash script as root in the guest, once it answers: Result(status, output).

        A script that takes longer than `timeout` is killed and raises TimedOut.
        """
        status, output = self._agent_call(lambda agent: agent.run(script, timeout))
        if status == "timeout":
            raise TimedOut(f"in the guest, after {timeout} s: {script}\n{output[-3000:]}")
        return Result(status, output)

    def must(self, script, timeout=60):
        """The output of a script that has to succeed."""
        result = self.run(script, timeout)
        if result.status != 0:
            raise CommandFailed(f"exit status {result.status}: {script}\n{result.output[-3000:]}")
        return result.output

    def wait_until(self, script, timeout=60):
        """Waits until a script succeeds; returns its output and the seconds that took."""
        deadline = Deadline(timeout, f"'{script}' in the guest")
        started = time.monotonic()
        while True:
            result = self.run(script)
            if result.status == 0:
                return result.output, time.monotonic() - started
            try:
                deadline.pause(0.2)
            except TimedOut as error:
                raise TimedOut(f"{error}; last output: {result.output[-2000:]}") from error

    def push(self, data, path, mode=0o644):
        """Writes bytes, a string or a host file (a Path) into the guest. Slow: 0.4 MB/s."""
        if isinstance(data, Path):
            data, mode = data.read_bytes(), data.stat().st_mode & 0o7777
        elif isinstance(data, str):
            data = data.encode()
        self._agent_call(lambda agent: agent.put(str(path), data, mode))

    def pull(self, path):
        """The bytes of a file of the guest."""
        return self._agent_call(lambda agent: agent.get(str(path)))

    def wait_ready(self, timeout=BOOT_SECONDS):
        """Waits until the guest has finished booting; returns systemd's word for its state."""
        return self.run("systemctl is-system-running --wait", timeout).output.strip()

    def disconnect_agent(self):
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def _connect(self):
        if self._agent is None:
            self._agent = Agent(self.folder / "agent.sock")
        return self._agent

    def _agent_call(self, call):
        self._require_running()
        if self.boots and time.monotonic() - self.boot_started < BOOT_SECONDS:
            self._wait_agent()
        try:
            return call(self._connect())
        except AgentError:
            self._require_running()
            raise

    def _wait_agent(self):
        """Waits, the first time after power-on, until the guest's agent answers at all."""
        if self._agent is not None:
            return
        status, _ = self._connect().run("true", BOOT_SECONDS)
        if status != 0:
            raise MachineError("the guest's agent does not work")

    def _disconnect(self):
        self.disconnect_agent()
        if self.qmp is not None:
            self.qmp.close()
            self.qmp = None

    # --- disks ---------------------------------------------------------------------------------

    def add_disk(self, serial, size_mb=64):
        """A new disk: there at power-on, or plugged in at once if the machine is on."""
        disk = Disk(self.folder / f"{serial}.raw", serial, size_mb)
        self.plug(disk)
        return disk

    def disk(self, serial):
        """The attached disk of that serial number."""
        return self._disks[serial]

    def plug(self, disk):
        """Attaches a disk, running or not."""
        self._disks[disk.serial] = disk
        self._slots.setdefault(disk.serial, len(self._slots))
        if self.running():
            self._plug(disk)

    def unplug(self, disk, timeout=60):
        """Takes a disk away, also one in use, as pulling its cable does."""
        del self._disks[disk.serial]
        if self.running():
            self.qmp.command("device_del", id=f"disk-{disk.serial}")
            self.qmp.wait_event("DEVICE_DELETED", timeout, device=f"disk-{disk.serial}")
            self.qmp.command("blockdev-del", node_name=f"node-{disk.serial}")

    def wait_disks(self, disks, timeout=60):
        """Waits until udev has made the links of these disks."""
        tests = " && ".join(f"test -b {disk.by_id}" for disk in disks)
        return self.wait_until(f"udevadm settle; {tests}", timeout)[1]

    def _plug(self, disk):
        self.qmp.command("blockdev-add", driver="raw", node_name=f"node-{disk.serial}",
                         cache={"no-flush": True},
                         file={"driver": "file", "filename": str(disk.path)})
        self.qmp.command("device_add", driver="scsi-hd", bus="scsi.0",
                         drive=f"node-{disk.serial}", id=f"disk-{disk.serial}",
                         serial=disk.serial, **self._place(disk))

    def _disk_arguments(self, disk):
        place = ",".join(f"{key.replace('_', '-')}={value}" for key, value in self._place(disk).items())
        return ["-blockdev", f"driver=raw,node-name=node-{disk.serial},cache.no-flush=on,"
                f"file.driver=file,file.filename={disk.path}",
                "-device", f"scsi-hd,bus=scsi.0,drive=node-{disk.serial},id=disk-{disk.serial},"
                f"serial={disk.serial},{place}"]

    def _place(self, disk):
        slot = self._slots[disk.serial]
        return {"channel": 0, "scsi_id": slot % 250, "lun": slot // 250}

    # --- what it says --------------------------------------------------------------------------

    def console_path(self):
        return self.folder / f"console-{self.boots}.log"

    def console(self):
        """What this boot has written to the serial console so far."""
        path = self.console_path()
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for_login(self, timeout=BOOT_SECONDS):
        """Waits for the login prompt on the console; returns the seconds since power-on."""
        deadline = Deadline(timeout, "login prompt")
        while "login: " not in self.console():
            self._require_running()
            try:
                deadline.pause()
            except TimedOut as error:
                raise MachineError(f"{error}; console:\n{self.console()[-3000:]}") from error
        return time.monotonic() - self.boot_started

    def collect(self):
        """Saves the guest's journal and state in the folder, as far as it still answers."""
        if not self.running():
            return
        for name, command in {"journal.log": "journalctl -b --no-pager -o short-monotonic",
                              "units.log": "systemctl --no-pager list-units --all; "
                                           "systemctl --no-pager --failed; systemctl list-jobs",
                              "devices.log": "lsblk; dmsetup table; dmsetup info; cat /proc/mounts"
                              }.items():
            try:
                (self.folder / name).write_text(self.run(command, timeout=60).output)
            except (MachineError, AgentError, TimedOut) as error:
                (self.folder / name).write_text(f"not collected: {error}\n")
