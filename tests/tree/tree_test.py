#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The tree keeps its order: includes point up the table of docs/architecture.md alone, every source
file carries its licence tag, and no text of any kind grows past the size that one subject needs. Documents point
at what is there, and the manual of operations knows every error."""
import pathlib
import re
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[2]
LINES_MAX = 600
DATA = ("tests/vectors/", "tests/fuzz/corpus/")  # made by others, or by machines

# Which folders a folder's includes may name, itself included. The files named `main.cc` of a program
# see everything: they build its objects.
MAY_USE = {
    "core/base": {"core/base"},
    "core/crypto": {"core/base", "core/crypto"},
    "core/ipc": {"core/base", "core/ipc"},
    "core/luks2": {"core/base", "core/crypto", "core/luks2"},
    "core/audit": {"core/base", "core/crypto", "core/audit"},
    "core/keyring": {"core/base", "core/crypto", "core/audit", "core/keyring"},
    "hsm": {"core", "hsm"},
    "sdk": {"core", "sdk"},
    "kms": {"core", "hsm", "sdk", "kms"},
    "agent": {"core", "hsm", "sdk", "agent"},
    "dbus": {"core", "agent", "dbus"},
    "cli": {"core", "hsm", "sdk", "cli"},
    "units": {"core", "units"},
    "udev": {"core", "udev"},
    "tests": None,
    "bench": None,
    "cmake": set(),
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def sources():
    for folder in sorted({name.split("/")[0] for name in MAY_USE}):
        for path in sorted((SOURCE / folder).rglob("*")):
            if path.suffix in (".h", ".cc", ".c", ".py", ".sh") and path.is_file():
                yield path


def rules_of(name: str):
    """The allowed folders of a file, by its longest matching row; a missing row is a mistake."""
    rows = [row for row in MAY_USE if name.startswith(row + "/")]
    return MAY_USE[max(rows, key=len)] if rows else set()


def check_includes(path: pathlib.Path, name: str) -> list[str]:
    allowed = rules_of(name)
    if allowed is None or path.suffix not in (".h", ".cc", ".c") or path.name == "main.cc":
        return []
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if match and not any(match.group(1).startswith(folder + "/") for folder in allowed):
            found.append(f"{name}:{number}: may not include {match.group(1)}")
    return found


def check_file(path: pathlib.Path, name: str) -> list[str]:
    lines = path.read_text().splitlines()
    found = []
    if not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:2]):
        found.append(f"{name}: has no licence tag in its first lines")
    return found


def texts():
    """Every tracked file but data, whatever it is called, that is text."""
    tracked = subprocess.run(["git", "-C", SOURCE, "ls-files", "-z"], capture_output=True, text=True)
    for name in tracked.stdout.split("\0"):
        path = SOURCE / name
        if not name or name.startswith(DATA) or not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" not in content:
            yield name, content


def check_lengths() -> list[str]:
    lengths = {name: len(content.splitlines()) for name, content in texts()}
    if not lengths:
        return ["git names no files: their lengths were not looked at"]
    return [f"{name}: has {lines} lines, more than {LINES_MAX}"
            for name, lines in lengths.items() if lines > LINES_MAX]


LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
REASON = re.compile(r'row\(Reason::k\w+,\s*Errc::k\w+,\s*"(\w+)"')


def check_documents() -> list[str]:
    found = []
    documents = [*SOURCE.glob("*.md"), *(SOURCE / "docs").rglob("*.md"), *(SOURCE / "tests").rglob("*.md")]
    for path in documents:
        for target in LINK.findall(path.read_text()):
            if "://" not in target and not (path.parent / target).exists():
                found.append(f"{path.relative_to(SOURCE)}: points at {target}, which is not there")
    reasons = REASON.findall((SOURCE / "core/base/error_reasons.cc").read_text())
    operations = (SOURCE / "docs/operations.md").read_text()
    found += [f"docs/operations.md: does not say what to do about {name}"
              for name in reasons if f"`{name}`" not in operations]
    return found if reasons else ["core/base/error_reasons.cc: no reason was found in it"]


def main() -> int:
    problems, count = [], 0
    for path in sources():
        name = str(path.relative_to(SOURCE))
        problems += check_includes(path, name) + check_file(path, name)
        count += 1
    problems += check_lengths() + check_documents()
    for problem in problems:
        print("FAILED " + problem)
    print(f"{count} files read, {len(problems)} problems")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
