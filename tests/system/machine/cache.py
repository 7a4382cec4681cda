# SPDX-License-Identifier: Apache-2.0
"""Things that are slow to make, kept in folders named by the hash of what they were made from."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from pathlib import Path

# How many results of one kind are kept. Older ones are removed when another is used, unless they
# were used within the last hour: another checkout may be running from them.
KEPT = {"tree": 2, "disk": 3, "booted": 2, "prepared": 2}
IN_USE_SECONDS = 3600


def root():
    """The cache folder: $COFFER_CACHE, or ~/.cache/coffer."""
    return Path(os.environ.get("COFFER_CACHE") or Path.home() / ".cache" / "coffer")


def digest_of(*parts):
    """One short hash over strings, bytes, files and folders (names, modes, links and contents)."""
    hasher = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            _add_path(hasher, part)
        else:
            hasher.update(part if isinstance(part, bytes) else str(part).encode())
        hasher.update(b"\0")
    return hasher.hexdigest()[:16]


def _add_path(hasher, path):
    paths = [path] + sorted(path.rglob("*")) if path.is_dir() else [path]
    for entry in paths:
        if "__pycache__" in entry.parts:
            continue
        hasher.update(f"{entry.relative_to(path)}\0{entry.lstat().st_mode:o}\0".encode())
        if entry.is_symlink():
            hasher.update(os.readlink(entry).encode())
        elif entry.is_file():
            hasher.update(hashlib.sha256(entry.read_bytes()).digest())


@contextlib.contextmanager
def locked(name):
    """Lets one process at a time make things of one kind."""
    root().mkdir(parents=True, exist_ok=True)
    with open(root() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def get(kind, key, make, say=lambda text: None):
    """The folder of `kind` and `key`; `make(folder)` fills it where it does not exist yet.

    A folder appears under its name only when it is complete, so that a cut-off run leaves nothing
    that looks usable.
    """
    folder = root() / f"{kind}-{key}"
    with locked(kind):
        if not folder.exists():
            unfinished = root() / f"{kind}-unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            say(f"making {kind} {key}")
            make(unfinished)
            unfinished.rename(folder)
        os.utime(folder)
        _remove_old(kind, folder)
    return folder


def _remove_old(kind, current):
    folders = [f for f in root().glob(f"{kind}-*") if f.is_dir() and f != current]
    folders.sort(key=lambda f: f.stat().st_mtime, reverse=True)
    for folder in folders[KEPT[kind] - 1:]:
        if time.time() - folder.stat().st_mtime > IN_USE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
