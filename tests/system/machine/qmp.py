# SPDX-License-Identifier: Apache-2.0
"""Talks to QEMU's control socket (QMP): one JSON object per line, answers mixed with events."""

import json
import socket

from .deadline import Deadline, TimedOut


class QmpError(Exception):
    """QEMU refused a command."""


class Qmp:
    """One connection to a QEMU that is already listening on `path`."""

    def __init__(self, path, timeout=30):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rwb")
        self._events = []
        self._read()  # the greeting
        self.command("qmp_capabilities")

    def close(self):
        self._file.close()
        self._socket.close()

    def command(self, name, **arguments):
        """Returns what the command returns. Keys with a dash are written with an underscore."""
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        request = {"execute": name, "arguments": arguments}
        self._file.write(json.dumps(request).encode() + b"\n")
        self._file.flush()
        while True:
            message = self._read()
            if "error" in message:
                raise QmpError(f"{name}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
            self._events.append(message)

    def wait_event(self, name, timeout, **data):
        """Waits for an event whose data hold all of `data`; earlier unclaimed events count."""
        deadline = Deadline(timeout, f"QEMU event {name} {data or ''}")
        while True:
            for event in self._events:
                if event.get("event") == name and data.items() <= event.get("data", {}).items():
                    self._events.remove(event)
                    return event
            deadline.check()
            self._socket.settimeout(max(0.01, deadline.remaining()))
            try:
                self._events.append(self._read())
            except socket.timeout as error:
                raise TimedOut(f"{deadline.what}: not within {timeout:g} s") from error
            finally:
                self._socket.settimeout(30)

    def migrate(self, command, uri, timeout=120):
        """Writes or reads the machine's state and waits until that is done."""
        capability = {"capability": "x-ignore-shared", "state": True}
        self.command("migrate-set-capabilities", capabilities=[capability])
        self.command(command, uri=uri)
        deadline = Deadline(timeout, command)
        while True:
            status = self.command("query-migrate").get("status")
            if status == "completed":
                return
            if status == "failed":
                raise QmpError(f"{command} failed")
            deadline.pause(0.01)

    def _read(self):
        line = self._file.readline()
        if not line:
            raise QmpError("QEMU is gone")
        return json.loads(line)
