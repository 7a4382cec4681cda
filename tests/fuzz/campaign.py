#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""So many executions of fuzz targets: tests/fuzz/campaign.py [--runs N] [--restart] NAME…

Runs each target in turns until it has been executed N times with its present program, each turn with another
seed and on what the ones before found. Cut off at any time, it goes on where it was: build/fuzz/tally.json has
the executions, seconds and findings of each target. A program that changed begins anew, as does one with a finding.
Prints one row per target for docs/evidence.md; fails when there was a finding.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
BUILD = TOP / "build" / "fuzz"
TURN = 100_000  # executions that are lost when a run is cut off


class Tally:
    """What each target has behind it, on disk after each turn."""

    def __init__(self, path):
        self._path = path
        self._entries = json.loads(path.read_text()) if path.exists() else {}

    def of(self, name, program):
        entry = self._entries.get(name)
        if entry and entry["program"] == program and not entry["findings"]:
            return entry
        return {"program": program, "executions": 0, "seconds": 0.0, "turns": 0, "findings": []}

    def put(self, name, entry):
        self._entries[name] = entry
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self._entries, indent=1, sort_keys=True))
        new.rename(self._path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--restart", action="store_true")
    parser.add_argument("--build", type=Path, default=BUILD, help="has bin/NAME; the tally goes there too")
    options = parser.parse_args()
    path = options.build / "tally.json"
    if options.restart:
        path.unlink(missing_ok=True)
    tally = Tally(path)
    return 1 if sum(bool(run(name, options, tally)) for name in options.names) else 0


def run(name, options, tally):
    """Turns of one target until it has its executions, or a finding. The findings."""
    program = options.build / "bin" / name
    entry = tally.of(name, hashlib.sha256(program.read_bytes()).hexdigest())
    while entry["executions"] < options.runs and not entry["findings"]:
        count = min(TURN, options.runs - entry["executions"])
        started = time.monotonic()
        executed, finding = turn(name, program, options.build / "found", count, entry["turns"] + 1)
        entry["executions"] += executed
        entry["turns"] += 1
        entry["seconds"] = round(entry["seconds"] + time.monotonic() - started, 1)
        if finding:
            entry["findings"].append(finding)
        tally.put(name, entry)
        print(f"{name}: {entry['executions']:,} of {options.runs:,}", flush=True)
    today = time.strftime("%Y-%m-%d")
    print(f"| {name} | {today} | {entry['executions']:,} | {'; '.join(entry['findings']) or 'none'} |", flush=True)
    return entry["findings"]


def turn(name, program, found, count, seed):
    """Executions of one run of libFuzzer, and its finding if it had one."""
    corpus = found / name
    corpus.mkdir(parents=True, exist_ok=True)
    dictionary = TOP / "tests" / "fuzz" / "dict" / f"{name}.dict"
    command = [program, f"-runs={count}", f"-seed={seed}", "-timeout=10", "-rss_limit_mb=2048",
               "-print_final_stats=1", f"-artifact_prefix={found}/",
               *([f"-dict={dictionary}"] if dictionary.exists() else []), corpus,
               TOP / "tests" / "fuzz" / "corpus" / name]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, errors="replace")
    stats = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    executed = int(stats.group(1)) if stats else 0
    if done.returncode == 0 and executed > 0:
        return executed, None
    (found / f"{name}.log").write_text(done.stderr)
    where = re.search(r"Test unit written to (\S+)", done.stderr)
    return executed, where.group(1) if where else f"exit status {done.returncode}, {found}/{name}.log"


if __name__ == "__main__":
    sys.exit(main())
