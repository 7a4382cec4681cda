#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Style checks: tests/lint.py [--all] [--junit FILE]. Needs a configured build/dev.

clang-format looks at every C++ file; clang-tidy, which takes seconds per file, at the sources that
changed since the branch left main or, on main itself, in the last commits (--all: every source). A
source that clang-tidy has found clean with the same text, headers and settings is not looked at again.
With --all there is no deadline, and what was not looked at fails the run.
"""

import argparse
import hashlib
import json
import math
import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / "build" / "dev"
CACHE = Path(os.environ.get("COFFER_CACHE") or Path.home() / ".cache" / "coffer") / "tidy"
COMMITS_ON_MAIN = 10
FORMAT, TIDY = "clang-format-19", "clang-tidy-19"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="clang-tidy on every source")
    parser.add_argument("--junit", type=Path)
    parser.add_argument("--minutes", type=float,
                        help="for clang-tidy, then it stops (8; with --all until it is done)")
    options = parser.parse_args()
    if options.minutes is None:
        options.minutes = math.inf if options.all else 8
    files = [Path(f) for f in git("ls-files", "*.cc", "*.h") if (TOP / f).exists()]
    results = check_text(files) + check_tidy(files, options)
    for name, verdict, text in results:
        if verdict != "passed":
            print(f"{verdict:8}{name}\n{text}".rstrip())
    if options.junit:
        write_junit(results, options.junit)
    count = {v: sum(r[1] == v for r in results) for v in ("passed", "failed", "skipped")}
    print(f"lint: {count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or (options.all and count["skipped"]) else 0


def git(*arguments):
    done = subprocess.run(["git", "-C", TOP, *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True)
    return done.stdout.splitlines()


def check_text(files):
    """Format and licence of every file, one result per rule; the test `layers` sees to the length."""
    formatted = subprocess.run([FORMAT, "--dry-run", "--Werror", *files], cwd=TOP, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    bad_lines = [line for line in formatted.stdout.splitlines() if "error:" in line]
    if formatted.returncode != 0 and not bad_lines:
        bad_lines = formatted.stdout.splitlines() or [f"{FORMAT} ended with {formatted.returncode}"]
    texts = {f: (TOP / f).read_text(errors="replace") for f in files}
    unlicensed = [str(f) for f, t in texts.items() if "SPDX-License-Identifier" not in t[:200]]
    rules = {"clang-format": bad_lines, "licence-line": unlicensed}
    return [(name, "failed" if bad else "passed", "\n".join(f"    {b}" for b in bad[:40]))
            for name, bad in rules.items()]


def check_tidy(files, options):
    """clang-tidy on what changed, within a time: what is left then counts as skipped."""
    commands = compile_commands()
    chosen = changed() if not options.all else {str(f) for f in files}
    chosen |= {str(Path(f).with_suffix(".cc")) for f in chosen if f.endswith(".h")}
    sources = sorted(f for f in map(str, files) if f.endswith(".cc") and f in chosen and f in commands)
    end = time.monotonic() + 60 * options.minutes
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda f: tidy(f, commands[f], end), sources))


def changed():
    """Files that differ from where this branch left main, committed or not; on main, from a few commits ago."""
    base = git("merge-base", "HEAD", "origin/main") or git("merge-base", "HEAD", "main")
    if not base or base == git("rev-parse", "HEAD"):
        history = git("rev-list", "--first-parent", f"--max-count={COMMITS_ON_MAIN + 1}", "HEAD")
        base = history[-1:] if len(history) > COMMITS_ON_MAIN else []
    if not base:  # a young history: all of it is new
        return set(git("ls-files"))
    return set(git("diff", "--name-only", base[0])) | set(git("ls-files", "--others", "--exclude-standard"))


def compile_commands():
    """Source (relative to the tree) -> its compile arguments without the precompiled header."""
    path = BUILD / "compile_commands.json"
    if not path.exists():
        sys.exit("lint: configure first: cmake --preset dev")
    found = {}
    for entry in json.loads(path.read_text()):
        file = os.path.relpath(entry["file"], TOP)
        arguments = [a for a in shlex.split(entry["command"])[1:] if a != "-Winvalid-pch"]
        found[file] = without_pch(arguments)
    return found


def without_pch(arguments):
    """GCC's precompiled header is nothing to clang; the header that it was made from is."""
    while arguments and not arguments[0].startswith("-"):
        arguments = arguments[1:]  # a launcher's compiler
    return arguments


def tidy(file, arguments, end):
    name = f"clang-tidy {file}"
    key = fingerprint(file, arguments)
    if key and (CACHE / key).exists():
        return name, "passed", ""
    if time.monotonic() > end:
        return name, "skipped", "    no time left; ./dev lint --all looks at everything"
    done = subprocess.run([TIDY, "--quiet", f"--config-file={TOP}/.clang-tidy", file, "--",
                           *compiler_flags(arguments)], cwd=TOP, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if "warnings generated" not in line]
        return name, "failed", "\n".join(f"    {line}" for line in lines[:60])
    if key:
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / key).touch()
    return name, "passed", ""


def compiler_flags(arguments):
    """Only what changes the meaning of the source: language, macros, include folders."""
    kept, take = [], False
    for argument in arguments:
        if take or argument.startswith(("-I", "-D", "-std")):
            kept.append(argument)
        take = argument in ("-isystem", "-include")
        if take:
            kept.append(argument)
    return [*kept, "-Wno-everything"]


def fingerprint(file, arguments):
    """A hash of all that decides the verdict: text of source and headers, flags and rules."""
    flags = compiler_flags(arguments)
    done = subprocess.run(["clang++-19", "-MM", *flags, file], cwd=TOP, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if done.returncode != 0:
        return None
    hasher = hashlib.sha256(" ".join(flags).encode() + (TOP / ".clang-tidy").read_bytes())
    for dependency in sorted(set(done.stdout.replace("\\\n", " ").split()[1:])):
        hasher.update((TOP / dependency).read_bytes())
    return hasher.hexdigest()


def write_junit(results, path):
    suite = ElementTree.Element("testsuite", name="lint", tests=str(len(results)))
    for name, verdict, text in results:
        case = ElementTree.SubElement(suite, "testcase", classname="lint", name=name)
        if verdict != "passed":
            tag = "failure" if verdict == "failed" else "skipped"
            ElementTree.SubElement(case, tag, message=text.strip()[:400])
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(suite).write(path, encoding="unicode")


if __name__ == "__main__":
    sys.exit(main())
