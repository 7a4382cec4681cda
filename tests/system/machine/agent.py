# SPDX-License-Identifier: Apache-2.0
"""The host's end of guest/root/usr/local/sbin/coffer-test-agent."""

import itertools
import json
import os
import socket
import time

from .deadline import TimedOut

# What the guest may take to answer beyond the time that the command itself was given: it may
# be starting the agent, or both processors may be busy with something else.
GRACE_SECONDS = 60


class AgentError(Exception):
    """The guest's agent could not do what was asked, or the guest went away."""


class Agent:
    """Commands and files over the virtio-serial port behind the socket `path`."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))
        self._ids = itertools.count(int(time.monotonic() * 1000))
        self._buffer = b""

    def close(self):
        self._socket.close()

    def run(self, script, timeout):
        """Exit status ("timeout" if it had to be killed) and output (both streams) of a script."""
        header, output = self._ask("run", script.encode(), timeout, timeout=timeout)
        return header["status"], output.decode(errors="replace")

    def put(self, path, data, mode):
        self._ask("put", data, 30 + len(data) / 100_000, path=path, mode=mode)

    def get(self, path):
        return self._ask("get", b"", 300, path=path)[1]

    def wake(self):
        """Sets the guest's clock and stirs its random numbers, after a resume."""
        self._ask("wake", os.urandom(64), 30, time=time.time())

    def _ask(self, operation, data, seconds, **fields):
        request = {"id": next(self._ids), "op": operation, "size": len(data), **fields}
        end = time.monotonic() + seconds + GRACE_SECONDS
        try:
            self._socket.settimeout(seconds + GRACE_SECONDS)
            self._socket.sendall(json.dumps(request).encode() + b"\n" + data)
            header, answer = self._answer(request["id"], end)
        except socket.timeout as error:
            raise TimedOut(f"guest did not answer '{operation}' in "
                           f"{seconds + GRACE_SECONDS:g} s") from error
        except OSError as error:
            raise AgentError(f"guest is gone: {error}") from error
        if "error" in header:
            raise AgentError(f"{operation} {fields.get('path', '')}: {header['error']}")
        return header, answer

    def _answer(self, wanted, end):
        while True:
            while b"\n" not in self._buffer:
                self._receive(end)
            line, self._buffer = self._buffer.split(b"\n", 1)
            header = json.loads(line)
            while len(self._buffer) < header["size"]:
                self._receive(end)
            data = self._buffer[:header["size"]]
            self._buffer = self._buffer[header["size"]:]
            if header["id"] == wanted:
                return header, data

    def _receive(self, end):
        self._socket.settimeout(max(0.01, end - time.monotonic()))
        chunk = self._socket.recv(65536)
        if not chunk:
            raise AgentError("guest is gone")
        self._buffer += chunk
