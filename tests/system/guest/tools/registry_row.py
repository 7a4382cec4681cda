#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: sets what the host knows of a volume's generation (docs/formats/registry.md).

    registry_row.py REGISTRY_DB NAME GENERATION PENDING
"""

import hashlib
import sqlite3
import sys


def generation_at(body):
    """Where the two generations stand in a row's body."""
    at = 2 + 16
    for field in range(8):  # name, mapped name, two devices of three texts
        at += 4 + int.from_bytes(body[at:at + 4], "big")
    at += 8 + 1  # size of the device, state
    return at + 4 + int.from_bytes(body[at:at + 4], "big")  # profile


path, name, generation, pending = sys.argv[1:]
database = sqlite3.connect(path)
body = bytearray(database.execute("select body from volume where name = ?", (name,)).fetchone()[0])
at = generation_at(body)
body[at:at + 16] = int(generation).to_bytes(8, "big") + int(pending).to_bytes(8, "big")
body[-32:] = hashlib.sha256(body[:-32]).digest()
database.execute("update volume set body = ? where name = ?", (bytes(body), name))
database.commit()
