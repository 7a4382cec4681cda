#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: waits until the audit journal (docs/formats/audit.md) has an intent behind a record.

    await_intent.py OPERATION SEQUENCE
"""

import re
import sys
import time
from pathlib import Path

JOURNAL = Path("/var/lib/coffer/agent/audit")
# Each start of the agent begins a segment; what is looked for is not far from its begin.
BEGIN_BYTES = 256 * 1024


def main():
    node = re.escape(bytes.fromhex(Path("/etc/coffer/host-id").read_text().strip().replace("-", "")))
    operation = sys.argv[1].encode()
    operation = re.escape(len(operation).to_bytes(4, "big") + operation)
    # Version, node, sequence, then clocks, boot and hash, kind 1; no other record before the operation.
    intent = re.compile(b"\0\1" + node + b"(.{8}).{64}\1(?:(?!" + node + b").){1,600}?" + operation, re.DOTALL)
    since = int(sys.argv[2]).to_bytes(8, "big")
    while True:
        newest = max(JOURNAL.glob("*.audit"))
        with open(newest, "rb") as segment:
            if any(found.group(1) > since for found in intent.finditer(segment.read(BEGIN_BYTES))):
                return
        time.sleep(0.01)


main()
