# SPDX-License-Identifier: Apache-2.0
"""CofferHost: what an admin does with Coffer on a Machine, over D-Bus with busctl.

A volume is named like its disk's serial number, and its file system is mounted at /srv/NAME.
"""

import json
import shlex
import time
from collections import namedtuple

from machine import Deadline, MachineError

BUS = "org.coffer.Agent1"
ROOT = "/org/coffer/Agent1"

# What the note of a provisioned volume may add to its fstab line when all is well.
SLOW_UDEV = "udev has not made its links yet"

# What runs on a host all the time.
PROGRAMS = ["cofferd.service", "coffer-worker.service", "coffer-vault@local.service", "coffer-reader.service"]

# One volume's result in a job; times in seconds.
Item = namedtuple("Item", "volume result error started duration")


class JobFailed(MachineError):
    """A job that had to succeed did not; the message holds each volume's error."""


def mount_unit(name):
    """The unit of /srv/NAME, as systemd writes it."""
    return "srv-" + name.replace("-", r"\x2d") + ".mount"


def all_closed(count):
    """What coffer-close.service says when nothing is left of that many mappings."""
    return f"closed {count} of {count} volumes"


class CofferHost:
    """A machine with Coffer installed. Nothing here starts it, and only assert_clean_shutdown() stops it."""

    def __init__(self, machine):
        self.machine = machine

    # --- set up --------------------------------------------------------------------------------

    def init(self):
        """Makes the token, its keys and a first CMK, and starts the agent, as an admin does once."""
        self.machine.must(INIT, timeout=300)
        self.wait_up()

    def wait_up(self, timeout=120):
        """Waits until the agent answers on the bus; returns the seconds that took."""
        return self.machine.wait_until(
            f"busctl get-property {BUS} {ROOT} {BUS}.Manager Version", timeout)[1]

    def provision(self, disks, file_system="ext4", mount=True, headers=None):
        """Makes a volume of each disk, named by its serial; returns seconds per name.

        `headers` (name -> disk) are those whose header stands on another disk.
        """
        headers = headers or {}
        self.machine.wait_disks([*disks, *headers.values()])
        jobs = {}
        for disk in disks:
            options = [f"name s {disk.serial}"]
            if file_system:
                options.append(f"file-system s {file_system}")
            if disk.serial in headers:
                options.append(f"header-device s {headers[disk.serial].by_id}")
            jobs[disk.serial] = self.call("Manager", "Provision",
                                          f"sa{{sv}} {disk.by_id} {len(options)} {' '.join(options)}")
        ended = self._ends_of(jobs)
        if file_system and mount:
            self.mount_at_boot({name: ended[name][0] for name in jobs})
        return {name: ended[name][1] for name in jobs}

    def _ends_of(self, jobs, timeout=480):
        """Waits until jobs that make a volume (name -> path) have ended: name -> (fstab line, seconds).

        Each is asked as soon as it has ended, in whatever order they end: a minute later it is gone.
        """
        ended, deadline = {}, Deadline(timeout, f"end of {jobs}")
        while True:
            for name, job in jobs.items():
                if name not in ended and not self._is_busy(job):
                    self.wait_job(job)
                    seconds = (self.get("Job", "EndTime", job) - self.get("Job", "StartTime", job)) / 1e6
                    ended[name] = self.fstab_line(job), seconds
            if len(ended) == len(jobs):
                return ended
            deadline.pause(0.05)

    def fstab_line(self, job):
        """The line that `coffer provision` prints: the note of the job's only volume."""
        note = self.call("Job", "GetDetails", "uu 0 1", job)[0]["note"]["data"]
        line, _, trouble = note.partition("; ")
        assert line.startswith("/dev/mapper/") and trouble in ("", SLOW_UDEV), note
        return line

    def mount_at_boot(self, lines):
        """Adds these lines (name -> line) to fstab as they are, and mounts their volumes."""
        names, table = list(lines), "\n".join(lines.values())
        folders = " ".join(f"/srv/{name}" for name in names)
        self.machine.must(f"mkdir -p {folders}; cat >> /etc/fstab <<'END'\n{table}\nEND\n"
                          f"systemctl daemon-reload")
        self.unlock(names)
        # As at boot: systemd waits until udev has made the links.
        self.machine.must("systemctl start " + " ".join(shlex.quote(mount_unit(n)) for n in names), timeout=120)

    # --- the API -------------------------------------------------------------------------------

    def busctl(self, arguments, timeout=60):
        """The data of a busctl command's answer."""
        output = self.machine.must(f"busctl --json=short --timeout=30 {arguments}", timeout)
        return json.loads(output)["data"] if output.strip() else None

    def call(self, interface, method, arguments="", path=ROOT):
        """Calls a method; `arguments` are a signature and values as busctl takes them."""
        data = self.busctl(f"call {BUS} {path} {BUS}.{interface} {method} {arguments}")
        return data[0] if data and len(data) == 1 else data

    def get(self, interface, name, path=ROOT):
        return self.busctl(f"get-property {BUS} {path} {BUS}.{interface} {name}")

    def objects(self, interface):
        """Path -> properties of all objects that have an interface."""
        tree = self.busctl(f"call {BUS} {ROOT} org.freedesktop.DBus.ObjectManager GetManagedObjects")[0]
        name = f"{BUS}.{interface}"
        return {path: {key: value["data"] for key, value in has[name].items()}
                for path, has in tree.items() if name in has}

    def volumes(self):
        """Name -> properties of all volumes."""
        return {v["Name"]: v for v in self.objects("Volume").values()}

    def states(self):
        """Name -> state of all volumes."""
        return {name: volume["State"] for name, volume in self.volumes().items()}

    def volume_path(self, spec):
        return self.call("Manager", "GetVolume", f"s {shlex.quote(spec)}")

    def audit(self, since=0):
        """Records of the audit journal behind number `since`: (seq, usec, boot usec, event, object, text)."""
        return self.call("Audit", "Query", f"a{{sv}}u 1 from-seq t {since + 1} 1000")

    # --- work ----------------------------------------------------------------------------------

    def unlock(self, names, must=True):
        """Unlocks volumes in one job; returns one Item each."""
        return self._many("UnlockMany", names, "0", must)

    def lock(self, names, options="0", must=True):
        """Locks volumes in one job. Their file systems must be unmounted already."""
        return self._many("LockMany", names, options, must)

    def _many(self, method, names, options, must):
        specs = " ".join(names)
        job = self.call("Manager", method, f"asa{{sv}} {len(names)} {specs} {options}")
        return self.wait_job(job, must=must)

    def wait_job(self, path, timeout=240, must=True):
        """Waits until a job has ended; returns its Items. Raises JobFailed if one failed."""
        deadline = Deadline(timeout, f"end of {path}")
        while self._is_busy(path):
            deadline.pause(0.05)
        rows = self.call("Job", "GetResults", "uu 0 1000", path)
        items = [Item(volume, result, error, start / 1e6, duration / 1e6)
                 for volume, result, error, start, duration in rows]
        bad = [item for item in items if item.result not in ("done", "skipped")]
        if must and (bad or self.get("Job", "State", path) != "done"):
            message = self.get("Job", "Message", path)
            errors = {v["Id"]: v["LastError"] for v in self.volumes().values()}
            raise JobFailed(f"{path}: {message}\n" + "\n".join(
                f"{item} {errors.get(item.volume)}" for item in items))
        return items

    def _is_busy(self, job):
        return self.get("Job", "State", job) in ("queued", "running")

    def listen(self, arguments, path):
        """Writes what the bus carries from now on to a file of the guest, as `busctl monitor` with these
        arguments tells it; `kill $(cat PATH.pid)` ends it."""
        self.machine.must(f"busctl monitor --json=short {arguments} >{path} 2>{path}.begun & echo $! >{path}.pid")
        self.machine.wait_until(f"grep -q Monitoring {path} {path}.begun")

    def unmount(self, names):
        self.machine.must("umount " + " ".join(f"/srv/{name}" for name in names))

    def forget_mounts(self):
        """From now on nothing mounts a volume that opens, which would make it busy."""
        self.machine.must("sed -i '/^.dev.mapper/d' /etc/fstab; systemctl daemon-reload")

    def write_files(self, names):
        """Writes a file to each of these volumes that assert_files() finds again."""
        self.machine.must("".join(f"echo 'kept by {name}' > /srv/{name}/file; " for name in names))

    def assert_files(self, names):
        text = self.machine.must("cat " + " ".join(f"/srv/{name}/file" for name in names))
        assert text == "".join(f"kept by {name}\n" for name in names), text

    def wait_token(self, timeout=60):
        """Waits until the vault's token answers: before, an unlock says HsmTimeout and is tried again later."""
        deadline = Deadline(timeout, "the token")
        while any(provider["State"] != "up" for provider in self.objects("KeyProvider").values()):
            deadline.pause(0.2)

    def wait_states(self, wanted, timeout=120):
        """Waits until the volumes of `wanted` (name -> state) are so; returns the seconds."""
        started = time.monotonic()
        deadline = Deadline(timeout, f"states {wanted}")
        while True:
            states = self.states()
            if all(states.get(name) == state for name, state in wanted.items()):
                return time.monotonic() - started
            try:
                deadline.pause(0.2)
            except Exception as error:
                raise MachineError(f"{error}; they are {states}") from error

    def assert_clean_shutdown(self, count):
        """Shuts the machine down: nothing is busy, and each of so many mappings is closed."""
        self.machine.shut_down()
        console = self.machine.console()
        assert "Power down" in console
        assert all_closed(count) in console, console[-3000:]
        for trouble in ["is busy", "Failed unmounting", "Could not detach", "Failed to finalize"]:
            assert trouble not in console, console[-3000:]

    # --- what the system says ------------------------------------------------------------------

    def mappings(self):
        """Names of all device-mapper devices of the guest."""
        lines = self.machine.must("dmsetup ls").splitlines()
        return {line.split()[0] for line in lines if "\t" in line}

    def mounted(self, names):
        """Those of `names` that are mounted."""
        mounts = self.machine.must("cat /proc/mounts")
        return {name for name in names if f" /srv/{name} " in mounts}

    def seconds_of_unit(self, unit, field="ActiveEnterTimestampMonotonic"):
        """When a unit became active, in seconds after the kernel's start; None if it is not."""
        value = self.machine.must(f"systemctl show -p {field} --value {shlex.quote(unit)}").strip()
        return int(value) / 1e6 if value and value != "0" else None


# Coffer's own command makes the token; the units start once they have a configuration.
INIT = """
coffer init --yes
"""
