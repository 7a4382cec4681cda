#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up results: tests/report.py FOLDER... prints failures, skips and the closing line.

A folder holds JUnit XML. `ctest.xml` has one case per test program; the XML that a GoogleTest
program wrote beside it has its cases, and then counts instead of the program. A program that failed
although none of its cases did (it crashed, or ran out of time) counts as one failure.
"""

import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree


def main():
    total = {"passed": 0, "failed": 0, "skipped": 0}
    failures, skips = [], defaultdict(list)
    for folder in map(Path, sys.argv[1:]):
        for name, verdict, reason in cases_of(folder):
            total[verdict] += 1
            if verdict == "failed":
                failures.append(f"{folder.parent.name}: {name}: {reason}")
            elif verdict == "skipped":
                skips[reason].append(f"{folder.parent.name}: {name}")
    for reason, names in skips.items():
        print(f"skipped ({len(names)}): {reason}")
        for name in names[:5] + (["…"] if len(names) > 5 else []):
            print(f"    {name}")
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 1 if total["failed"] or not total["passed"] else 0


def cases_of(folder):
    """(name, verdict, reason) of everything in a folder of results."""
    programs, cases = {}, defaultdict(list)
    for path in sorted(folder.glob("*.xml")):
        try:
            root = ElementTree.parse(path).getroot()
        except ElementTree.ParseError:
            cases[path.stem] = [(path.stem, "failed", "its results are cut off")]
            continue
        if path.name == "ctest.xml":
            programs = {case.get("name"): read(case) for case in root.iter("testcase")}
        else:
            # What GoogleTest calls disabled here is what a test runs as a process of its own.
            cases[path.stem] = [read(case) for case in root.iter("testcase")
                                if not case.get("name").startswith("DISABLED_")]
    for program, result in programs.items():
        written = cases.get(program, [])
        if not written or (result[1] == "failed" and all(c[1] != "failed" for c in written)):
            yield result
    for written in cases.values():
        yield from written


def read(case):
    name = ".".join(filter(None, [case.get("classname"), case.get("name")]))
    for element in case:
        if element.tag in ("failure", "error"):
            return name, "failed", first_line(element)
        if element.tag == "skipped":
            return name, "skipped", first_line(element)
    if case.get("status") in ("fail", "disabled", "notrun"):
        return name, "failed" if case.get("status") == "fail" else "skipped", case.get("status")
    return name, "passed", ""


def first_line(element):
    """What it says, without the file and line that GoogleTest puts before it."""
    lines = (element.get("message") or element.text or "").strip().splitlines()
    lines = [line for line in lines if line.strip() and ".cc:" not in line] or lines
    return (lines or ["no reason given"])[0][:200]


if __name__ == "__main__":
    sys.exit(main())
