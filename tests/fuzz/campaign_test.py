#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Counted fuzz runs: they go on where they were cut off, and begin anew with another program or after a finding."""
import json
import pathlib
import subprocess
import sys
import tempfile

CAMPAIGN = pathlib.Path(__file__).with_name("campaign.py")

# In place of a fuzz target: as many executions as it is asked for, until a file `stop` says otherwise.
PROGRAM = """#!/bin/sh
here=$(dirname "$0")
case $1 in -runs=*) runs=${1#-runs=};; esac
echo "$runs" >> "$here/calls"
if [ -e "$here/stop" ]; then echo "Test unit written to $here/crash-1" >&2; exit 77; fi
echo "stat::number_of_executed_units: $runs" >&2
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        build = pathlib.Path(name)
        (build / "bin").mkdir()
        program, calls, stop = (build / "bin" / n for n in ("target", "calls", "stop"))

        def campaign(runs):
            done = subprocess.run([CAMPAIGN, "target", "--runs", str(runs), "--build", build],
                                  capture_output=True, text=True, timeout=60)
            made = calls.read_text().split() if calls.exists() else []
            calls.unlink(missing_ok=True)
            entry = json.loads((build / "tally.json").read_text())["target"]
            return done.returncode, made, entry["executions"], done.stdout

        program.write_text(PROGRAM)
        program.chmod(0o755)
        assert campaign(150_000)[:3] == (0, ["100000", "50000"], 150_000)
        assert campaign(170_000)[:3] == (0, ["20000"], 170_000), "goes on"
        status, made, executions, text = campaign(170_000)
        assert (status, made, executions) == (0, [], 170_000), "is done"
        assert "| 170,000 | none |" in text, text
        program.write_text(PROGRAM + "# another\n")
        assert campaign(1000)[:3] == (0, ["1000"], 1000), "another program begins anew"
        stop.touch()
        status, made, executions, text = campaign(5000)
        assert status == 1 and made == ["4000"] and f"| {build}/bin/crash-1 |" in text, text
        stop.unlink()
        assert campaign(5000)[:3] == (0, ["5000"], 5000), "a finding begins anew"
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
