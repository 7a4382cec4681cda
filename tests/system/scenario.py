# SPDX-License-Identifier: Apache-2.0
"""What a scenario is made of: @scenario marks it, Context is what it gets, Skipped ends it early."""

import importlib
import time
from collections import namedtuple
from pathlib import Path

import coffer_host
from machine import Machine, Template, cache

Scenario = namedtuple("Scenario", "name summary function timeout long host")

# The volumes of a prepared host: made, open and mounted at /srv/NAME.
# One of them has a name that systemd spells otherwise in the names of its units.
DASHED = "data7-b"
VOLUMES = [*(f"data{number}" for number in range(1, 7)), DASHED, "data8"]
# The header of this one stands on a disk of its own.
DETACHED, HEADER_DISK = "data8", "data8-header"

_found = []


class Skipped(Exception):
    """The scenario cannot run here; the message says what is missing."""


def scenario(timeout=600, long=False, host=False):
    """Marks a function of a Context as a scenario. Its docstring's first line is its summary.

    A scenario fails by raising anything (assert is fine), or by taking more than `timeout` seconds.
    Those marked `long` run only when named or with --long. Those marked `host` need an installed
    Coffer, and are skipped without.
    """
    def mark(function):
        module = function.__module__.rpartition(".")[2]
        summary = (function.__doc__ or "").strip().splitlines()[0]
        _found.append(Scenario(f"{module}.{function.__name__}", summary, function, timeout, long,
                               host))
        return function
    return mark


def plain_template(image, say=lambda text: None):
    """A booted guest, with Coffer installed if the image has it but not set up."""
    return Template(image, say=say)


def host_template(image, say=lambda text: None):
    """A booted guest with a token and the volumes of VOLUMES, open and mounted."""
    def prepare(machine):
        host = coffer_host.CofferHost(machine)
        host.init()
        host.provision([machine.disk(name) for name in VOLUMES],
                       headers={DETACHED: machine.disk(HEADER_DISK)})
        host.write_files(VOLUMES)
    return Template(image, prepare=prepare, key=cache.digest_of(Path(coffer_host.__file__), Path(__file__)),
                    disks=[*((name, 32) for name in VOLUMES), (HEADER_DISK, 16)], say=say)


def discover():
    """All scenarios, by file name and then in the order of the file."""
    for path in sorted((Path(__file__).parent / "scenarios").glob("*.py")):
        importlib.import_module(f"scenarios.{path.stem}")
    return list(_found)


class Context:
    """What a scenario works with: a folder of its own, machines, and a log."""

    def __init__(self, folder, image, build):
        self.folder = Path(folder)
        self.image = image
        self.build = Path(build)  # of the Coffer that the image has, and of its tests
        self._machines = []
        self._started = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for machine in self._machines:
            machine.close()

    def log(self, text):
        """A line of the scenario's log, with the seconds since its start."""
        print(f"[{time.monotonic() - self._started:7.2f}] {text}", flush=True)

    def machine(self, name="machine", template=None):
        """A new machine that is off. It ends with the scenario at the latest."""
        machine = Machine(self.image, self.folder / name, template=template, say=self.log)
        self._machines.append(machine)
        return machine

    def resumed(self, name="machine"):
        """A machine that is already up: a second instead of a boot."""
        machine = self.machine(name, plain_template(self.image))
        machine.resume()
        return machine

    def host(self, name="host", resume=True):
        """A CofferHost with the volumes of VOLUMES, which are open and mounted.

        With resume=False its machine is off, as after a power cut.
        """
        host = coffer_host.CofferHost(self.machine(name, host_template(self.image)))
        if resume:
            host.machine.resume()
        return host

    def collect(self):
        """Saves journals and states of all machines, after a failure, and logs the end of what they say."""
        for machine in self._machines:
            print(f"console of {machine.folder.name}:\n{machine.console()[-1000:]}", flush=True)
            machine.collect()

