# SPDX-License-Identifier: Apache-2.0
"""Changes LUKS2 headers on a disk file, with right checksums: what an attacker with the disk can do."""

import hashlib
import json

MAGICS = b"LUKS\xba\xbe", b"SKUL\xba\xbe"  # how the first copy and the second begin
BINARY_BYTES = 4096
SIZE_AT, OFFSET_AT = 8, 256  # of a copy, in its binary part; 8 bytes each
CHECKSUM_AT, CHECKSUM_BYTES = 448, 64


def read_json(disk):
    """The metadata of the first copy."""
    data = disk.path.read_bytes()
    return json.loads(data[BINARY_BYTES:header_bytes(data)].split(b"\0")[0])


def token_of(metadata):
    """Coffer's token in the metadata."""
    return next(token for token in metadata["tokens"].values() if token["type"] == "coffer")


def read_token(disk):
    return token_of(read_json(disk))


def edit(disk, change_json=None, change_binary=None):
    """Applies changes to both copies. `change_json(metadata)` and `change_binary(bytearray of 4096)`
    change what they are given; both copies get the size that config.json_size says then."""
    with open(disk.path, "r+b") as file:
        size = header_bytes(file.read(BINARY_BYTES))
        for is_second in (False, True):
            file.seek(size if is_second else 0)
            copy = bytearray(file.read(size))
            if change_json:
                metadata = json.loads(bytes(copy[BINARY_BYTES:]).split(b"\0")[0])
                change_json(metadata)
                text = json.dumps(metadata, separators=(",", ":")).encode()
                json_bytes = int(metadata["config"]["json_size"])
                copy[BINARY_BYTES:] = text.ljust(json_bytes, b"\0")
                copy[SIZE_AT:SIZE_AT + 8] = len(copy).to_bytes(8, "big")
                copy[OFFSET_AT:OFFSET_AT + 8] = (len(copy) if is_second else 0).to_bytes(8, "big")
            if change_binary:
                binary = bytearray(copy[:BINARY_BYTES])
                change_binary(binary)
                copy[:BINARY_BYTES] = binary
            copy[CHECKSUM_AT:CHECKSUM_AT + CHECKSUM_BYTES] = bytes(CHECKSUM_BYTES)
            digest = hashlib.sha256(copy).digest()
            copy[CHECKSUM_AT:CHECKSUM_AT + len(digest)] = digest
            if is_second:  # where it was, if it moves
                file.seek(size)
                file.write(bytes(size))
            file.seek(len(copy) if is_second else 0)
            file.write(copy)


def header_bytes(data):
    """Size of one copy of the header: binary part and JSON."""
    return int.from_bytes(data[8:16], "big")


def digest(disk):
    """A hash of the whole disk."""
    return hashlib.sha256(disk.path.read_bytes()).hexdigest()
