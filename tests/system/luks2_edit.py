# SPDX-License-Identifier: Apache-2.0
"""Changes LUKS2 headers on a disk file, with right checksums: what an attacker with the disk can do."""

import hashlib
import json

BINARY_BYTES = 4096
CHECKSUM_AT, CHECKSUM_BYTES = 448, 64


def read_json(disk):
    """The metadata of the first copy."""
    data = disk.path.read_bytes()
    return json.loads(data[BINARY_BYTES:header_bytes(data)].split(b"\0")[0])


def edit(disk, change_json=None, change_binary=None):
    """Applies changes to both copies. `change_json(metadata)` and `change_binary(bytearray of 4096)`
    change what they are given."""
    with open(disk.path, "r+b") as file:
        size = header_bytes(file.read(BINARY_BYTES))
        for offset in (0, size):
            file.seek(offset)
            copy = bytearray(file.read(size))
            if change_json:
                metadata = json.loads(bytes(copy[BINARY_BYTES:]).split(b"\0")[0])
                change_json(metadata)
                text = json.dumps(metadata, separators=(",", ":")).encode()
                copy[BINARY_BYTES:] = text.ljust(size - BINARY_BYTES, b"\0")
            if change_binary:
                binary = bytearray(copy[:BINARY_BYTES])
                change_binary(binary)
                copy[:BINARY_BYTES] = binary
            copy[CHECKSUM_AT:CHECKSUM_AT + CHECKSUM_BYTES] = bytes(CHECKSUM_BYTES)
            digest = hashlib.sha256(copy).digest()
            copy[CHECKSUM_AT:CHECKSUM_AT + len(digest)] = digest
            file.seek(offset)
            file.write(copy)


def header_bytes(data):
    """Size of one copy of the header: binary part and JSON."""
    return int.from_bytes(data[8:16], "big")


def digest(disk):
    """A hash of the whole disk."""
    return hashlib.sha256(disk.path.read_bytes()).hexdigest()
