# SPDX-License-Identifier: Apache-2.0
"""What a scenario is made of: @scenario marks it, Context is what it gets, Skipped ends it early."""

import importlib
import time
from collections import namedtuple
from pathlib import Path

from machine import Image, Machine

Scenario = namedtuple("Scenario", "name summary function timeout long")

_found = []


class Skipped(Exception):
    """The scenario cannot run here; the message says what is missing."""


def scenario(timeout=300, long=False):
    """Marks a function of a Context as a scenario. Its docstring's first line is its summary.

    A scenario fails by raising anything (assert is fine), or by taking more than `timeout` seconds.
    Those marked `long` run only when named or with --long.
    """
    def mark(function):
        module = function.__module__.rpartition(".")[2]
        summary = (function.__doc__ or "").strip().splitlines()[0]
        _found.append(Scenario(f"{module}.{function.__name__}", summary, function, timeout, long))
        return function
    return mark


def discover():
    """All scenarios, by file name and then in the order of the file."""
    for path in sorted((Path(__file__).parent / "scenarios").glob("*.py")):
        importlib.import_module(f"scenarios.{path.stem}")
    return list(_found)


class Context:
    """What a scenario works with: a folder of its own, machines, and a log."""

    def __init__(self, folder, build):
        self.folder = Path(folder)
        self.image = Image(build)
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

    def machine(self, name="machine"):
        """A new machine that is off. It ends with the scenario at the latest."""
        machine = Machine(self.image, self.folder / name, say=self.log)
        self._machines.append(machine)
        return machine

    def resumed(self, name="machine"):
        """A machine that is already up: a second instead of a boot. Quick, but forgets all."""
        machine = self.machine(name)
        machine.resume()
        return machine

    def collect(self):
        """Saves journals and states of all machines, after a failure."""
        for machine in self._machines:
            machine.collect()


def needs_coffer(context):
    """Skips where the build has no daemon to install."""
    if not context.image.has_coffer:
        raise Skipped("the build folder installs no cofferd")
