#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest as root: follows one volume's key into the kernel, then looks for copies of it.

    key_hunt.py SECRET_FILE VOLUME     SECRET_FILE holds another secret to look for (the PIN)

A probe in the kernel function that takes a new key's bytes catches the key while the volume is
unlocked. A second later the memory, arguments and environment of every process, the journal, and
all that went over the bus are searched for it: raw, in hexadecimal and in base64.
"""

import base64
import os
import subprocess
import sys
import time

BUS = ["org.coffer.Agent1", "/org/coffer/Agent1", "org.coffer.Agent1.Manager"]
TRACING = "/sys/kernel/tracing"
# struct key_preparsed_payload: the bytes' address and their number, found by trying.
DATA_OFFSET, LENGTH_OFFSET = 48, 56


def start_probe():
    subprocess.run(["mount", "-t", "tracefs", "tracefs", TRACING], stderr=subprocess.DEVNULL)
    words = " ".join(f"w{i}=+{8 * i}(+{DATA_OFFSET}(%di)):x64" for i in range(8))
    write("kprobe_events", f"p:newkey user_preparse {words} length=+{LENGTH_OFFSET}(%di):u64\n")
    write("trace", "")
    write("events/kprobes/newkey/enable", "1")


def keys_caught():
    write("events/kprobes/newkey/enable", "0")
    keys = []
    for line in open(f"{TRACING}/trace"):
        if "length=64" in line:
            words = [int(part.split("=")[1], 16) for part in line.split() if part[0] == "w" and "=0x" in part]
            keys.append(b"".join(word.to_bytes(8, "little") for word in words))
    write("trace", "")
    return keys


def write(name, text):
    with open(f"{TRACING}/{name}", "w") as file:
        file.write(text)


def forms(secret):
    """How a secret may be spelled. Half a key is as bad as a whole one."""
    half = secret[:len(secret) // 2] if len(secret) >= 64 else secret
    encoded = base64.b64encode(secret)[:40] if len(secret) >= 30 else base64.b64encode(secret).rstrip(b"=")
    return [half, half.hex().encode(), half.hex().upper().encode(), encoded]


def holders(secrets):
    """Names of all places where one of the secrets is found."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        for place, data in places_of(pid):
            if any(form in data for secret in secrets for form in forms(secret)):
                found.append(f"{place} of {name_of(pid)} ({pid})")
    for place, command in {"journal": ["journalctl", "-b", "--no-pager", "-o", "export"],
                           "kernel log": ["dmesg"], "bus": ["cat", "/run/heard"]}.items():
        data = subprocess.run(command, stdout=subprocess.PIPE).stdout
        if any(form in data for secret in secrets for form in forms(secret)):
            found.append(place)
    return found


def name_of(pid):
    try:
        return open(f"/proc/{pid}/comm").read().strip()
    except OSError:
        return ""  # gone


def places_of(pid):
    """(name, bytes) of arguments, environment and readable memory of a process."""
    try:
        for name in ("cmdline", "environ"):
            yield name, open(f"/proc/{pid}/{name}", "rb").read()
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for line in open(f"/proc/{pid}/maps"):
                span, rights, *_ = line.split()
                # What cannot be written holds what a file holds.
                if not rights.startswith("rw"):
                    continue
                start, end = (int(part, 16) for part in span.split("-"))
                yield f"memory {line.split()[-1]}", read_span(memory, start, end)
    except (OSError, ValueError):
        return  # a kernel thread, or gone


def read_span(memory, start, end):
    try:
        memory.seek(start)
        return memory.read(end - start)
    except OSError:
        return b""


def start_canary():
    """A process with a secret of its own in its memory, which the hunt has to find."""
    secret = os.urandom(64)
    code = "import sys; kept = sys.stdin.buffer.read(64); print(flush=True); sys.stdin.buffer.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(secret)
    process.stdin.flush()
    process.stdout.readline()
    return process, secret


def memory_now(names):
    """All that processes of these names have in writable memory at this moment."""
    pids = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if name_of(pid) in names]
    return [data for pid in pids for place, data in places_of(pid)]


def main():
    other = open(sys.argv[1], "rb").read().strip()
    canary, canary_secret = start_canary()
    meanwhile = []
    start_probe()
    with open("/run/heard", "wb") as heard:
        monitor = subprocess.Popen(["busctl", "monitor", "--json=short", BUS[0]], stdout=heard)
        time.sleep(1)
        subprocess.run(["busctl", "call", *BUS, "UnlockMany", "asa{sv}", "1", sys.argv[2], "0"], check=True)
        while not os.path.exists(f"/dev/mapper/{sys.argv[2]}"):
            meanwhile += memory_now(["cofferd", "coffer-reader"])
        time.sleep(1)
        monitor.terminate()
        monitor.wait()
    keys = keys_caught()
    print(f"{len(keys)} keys of 64 bytes went to the kernel")
    table = subprocess.run(["dmsetup", "table", "--showkeys", sys.argv[2]], stdout=subprocess.PIPE, text=True)
    print("the mapping's table names the key:", ":64:logon:" in table.stdout)
    print("the hunt finds what is there:", any("memory" in place for place in holders([canary_secret])))
    canary.kill()
    seen = any(form in data for data in meanwhile for key in keys for form in forms(key))
    print(f"{len(meanwhile)} spans; seen in cofferd or reader meanwhile: {seen}")
    print("keys found in:", ", ".join(holders(keys)) or "nothing")
    print("the other secret found in:", (", ".join(holders([other])) if other else "not looked for") or "nothing")


main()
