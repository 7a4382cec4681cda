#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest with the rights of one of Coffer's processes: tries to get a volume's key.

    ask_for_key.py MATERIAL.json    what the header and the store hold: record, wrap, context, lie

Prints one line of JSON: what was tried, and the errno or the reason's number that came of it. The
messages are those of docs/formats/ipc.md and vault-protocol.md.
"""

import errno
import json
import os
import socket
import sys

RUN = "/run/coffer"
PROTOCOL = (2).to_bytes(2, "big")


def framed(*parts):
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def connect(name):
    ask = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ask.settimeout(20)
    ask.connect(f"{RUN}/{name}")
    return ask


def ask_vault(kind, body):
    """The number of the reason that the vault refuses with, "keys" if it gives something."""
    with connect("vault-local.sock") as vault:
        milliseconds = (10000).to_bytes(4, "big")
        vault.send(PROTOCOL + kind.to_bytes(2, "big") + (1).to_bytes(8, "big") + milliseconds + body)
        answer = vault.recv(65536)
    if answer[2:4] == b"\x80\x01":
        return int.from_bytes(answer[12:14], "big")
    # A list with one entry: a boolean, and a value or an error in a byte string.
    return "keys" if answer[16] else int.from_bytes(answer[21:23], "big")


def attempt(what):
    try:
        return what()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))


def memory_of(program):
    pid = next(p for p in os.listdir("/proc") if p.isdigit() and comm(p) == program)
    with open(f"/proc/{pid}/mem", "rb"):
        return "opened"


def comm(pid):
    try:
        return open(f"/proc/{pid}/comm").read().strip()
    except OSError:
        return ""


material = {name: bytes.fromhex(text) for name, text in json.load(open(sys.argv[1])).items()}
one = (1).to_bytes(4, "big")
unwrap = framed(material["record"]) + one
deliver = framed(material["record"]) + bytes(16) + one + bytes(4) + one
print(json.dumps({
    "vault socket": attempt(lambda: connect("vault-local.sock") and "connected"),
    "deliver socket": attempt(lambda: connect("deliver.sock") and "connected"),
    "worker socket": attempt(lambda: connect("worker.sock") and "connected"),
    "unwrap": attempt(lambda: ask_vault(5, unwrap + framed(material["wrap"], material["context"]))),
    "unwrap with a lie": attempt(lambda: ask_vault(5, unwrap + framed(material["wrap"], material["lie"]))),
    "deliver": attempt(lambda: ask_vault(7, deliver + framed(material["wrap"], material["context"]))),
    "memory of the worker": attempt(lambda: memory_of("coffer-worker")),
    "memory of the vault": attempt(lambda: memory_of("coffer-vault")),
}))
