#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest as root: follows one volume's key into the kernel, then looks for copies of it.

    key_hunt.py SECRET_FILE VOLUME     SECRET_FILE holds another secret to look for (the PIN)

A probe in the kernel function that takes a new key's bytes catches the key while the volume is
unlocked. A second later the memory, arguments and environment of every process, the journal, all
that went over the bus and the files below FOLDERS are searched for it: raw, in hexadecimal and in
base64. Only then a secret of its own, which it puts into all these places, tells that it finds what
is there. At last Coffer's processes crash, and what they leave is searched too.
"""

import base64
import os
import resource
import signal
import stat
import subprocess
import sys
import time

BUS = ["org.coffer.Agent1", "/org/coffer/Agent1", "org.coffer.Agent1.Manager"]
UNITS = ["cofferd.service", "coffer-worker.service", "coffer-vault@local.service", "coffer-reader.service"]
CORES = "/run/cores"
HEARD = "/run/heard"  # All messages of the system bus, as they are on the wire.
# The stores, the audit journal and the token; sockets' neighbours, marks and cores; logs; what is temporary.
FOLDERS = ["/var/lib/coffer", "/etc/coffer", "/run", "/var/log", "/var/lib/systemd", "/tmp", "/var/tmp"]
# systemd hands the PIN to the vault here, in memory that is not swapped.
CREDENTIALS = "/run/credentials/coffer-vault@local.service/"
PLANTED = ["/var/lib/coffer/canary", "/run/coffer/canary"]
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
    if len(secret) < 64:
        return spellings(secret)
    middle = len(secret) // 2
    # In base64 the second half looks otherwise where the first stands before it: what is whole of it there.
    behind_first = base64.b64encode(secret)[-(-middle // 3) * 4:].rstrip(b"=")[:-1]
    return [*spellings(secret[:middle]), *spellings(secret[middle:]), behind_first]


def spellings(part):
    # Whatever follows it, all but the end of its base64 looks the same.
    encoded = base64.b64encode(part)[:len(part) // 3 * 4] if len(part) >= 30 else base64.b64encode(part).rstrip(b"=")
    return [part, part.hex().encode(), part.hex().upper().encode(), encoded]


def holders(secrets):
    """Names of all places where one of the secrets is found. Memory, which may change, is searched first."""
    wanted = [form for secret in secrets for form in forms(secret)]
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        for place, data in places_of(pid):
            if any(form in data for form in wanted):
                found.append(f"{place} of {name_of(pid)} ({pid})")
    found += files_with(secrets)
    subprocess.run(["journalctl", "--sync"], check=True)
    for place, command in {"journal": ["journalctl", "-b", "--no-pager", "-o", "export"],
                           "kernel log": ["dmesg"], "bus": ["cat", HEARD]}.items():
        data = subprocess.run(command, stdout=subprocess.PIPE).stdout
        if any(form in data for form in wanted):
            found.append(place)
    return found


def files_with(secrets):
    """Paths of the files that hold one of the secrets; not the one that this program was given."""
    wanted = [form for secret in secrets for form in forms(secret)]
    found = []
    for folder in FOLDERS:
        for at, _, names in os.walk(folder):
            for path in (os.path.join(at, name) for name in names):
                if path == sys.argv[1] or path.startswith(CREDENTIALS):
                    continue
                content = file_bytes(path)
                if any(form in content for form in wanted):
                    found.append(path)
    return found


def file_bytes(path):
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return b""
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""  # gone


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
    """A process with a secret of its own in its memory, which may leave a core."""
    secret, size = os.urandom(64), resource.RLIM_INFINITY
    code = "import sys; kept = sys.stdin.buffer.read(64); print(flush=True); sys.stdin.buffer.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (size, size)))
    process.stdin.write(secret)
    process.stdin.flush()
    process.stdout.readline()
    return process, secret


def start_teller(secret):
    """A process that has the secret in its arguments, and spelled otherwise in its environment."""
    return subprocess.Popen(["/bin/sh", "-c", "read never", secret.hex()], stdin=subprocess.PIPE,
                            env={"CANARY": base64.b64encode(secret).decode()})


def emit(secret):
    """Sends the secret over the bus, as bytes, until the capture has it."""
    end = time.monotonic() + 60
    while secret not in file_bytes(HEARD):
        if time.monotonic() > end:
            raise SystemExit("the bus is not heard")
        subprocess.run(["busctl", "emit", "/org/coffer/Canary", "org.coffer.Canary", "Told", "ay", str(len(secret)),
                        *map(str, secret)], check=True)
        time.sleep(0.2)


def finds_what_is_there(canary, secret):
    """Plants the canary's secret, which the bus has heard already, in each other kind of place, a core among them;
    the kinds that the hunt misses."""
    os.makedirs(CORES, exist_ok=True)
    with open("/proc/sys/kernel/core_pattern", "w") as pattern:
        pattern.write(f"{CORES}/%e.%p")
    teller = start_teller(secret)
    for path, text in zip(PLANTED, (secret, secret.hex().encode())):
        with open(path, "wb") as file:
            file.write(text)
    subprocess.run(["systemd-cat"], input=base64.b64encode(secret) + b"\n", check=True)
    found = holders([secret])
    teller.kill()
    teller.wait()
    canary.send_signal(signal.SIGSEGV)
    canary.wait()
    found += files_with([secret])
    for path in PLANTED:
        os.unlink(path)
    kinds = {kind: (kind, "") for kind in ("journal", "bus", CORES, *PLANTED)}
    kinds |= {"memory": ("memory", f"({canary.pid})")}
    kinds |= {kind: (kind, f"({teller.pid})") for kind in ("cmdline", "environ")}
    print("canary found in:", ", ".join(found))
    return [kind for kind, (begin, end) in kinds.items()
            if not any(place.startswith(begin) and place.endswith(end) for place in found)]


def crash():
    """Coffer's processes die as by a fault of theirs; names of the cores that are there then."""
    before = {unit: main_pid(unit) for unit in UNITS}
    for pid in before.values():
        if pid != "0":
            os.kill(int(pid), signal.SIGSEGV)
    end = time.monotonic() + 30
    while any(pid != "0" and os.path.exists(f"/proc/{pid}") for pid in before.values()):
        if time.monotonic() > end:
            raise SystemExit("they do not die")
    return sorted(os.listdir(CORES))


def main_pid(unit):
    return subprocess.run(["systemctl", "show", "-p", "MainPID", "--value", unit], stdout=subprocess.PIPE,
                          text=True, check=True).stdout.strip()


def memory_until_open(volume, job, names):
    """All that processes of these names have in writable memory until the volume opens, in spans, each once."""
    spans, begun, looked = set(), time.monotonic(), 0
    while not os.path.exists(f"/dev/mapper/{volume}"):
        passed = time.monotonic() - begun
        if passed > looked + 2:  # Not in each round: that takes longer than all else here.
            looked = passed
            if passed > 120 or job_failed(job):
                raise SystemExit(f"{volume} does not open")
        pids = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if name_of(pid) in names]
        spans.update(data for pid in pids for place, data in places_of(pid))
    return spans


def job_failed(job):
    state = subprocess.run(["busctl", "get-property", BUS[0], job, f"{BUS[0]}.Job", "State"], stdout=subprocess.PIPE,
                           text=True, check=True).stdout
    return not any(f'"{word}"' in state for word in ("queued", "running", "done"))


def main():
    other = open(sys.argv[1], "rb").read().strip()
    assert other, "nothing else to look for"
    canary, secret = start_canary()
    start_probe()
    with open(HEARD, "wb") as heard:
        monitor = subprocess.Popen(["busctl", "capture", "--size=1M"], stdout=heard)
        emit(secret)
        answer = subprocess.run(["busctl", "call", *BUS, "UnlockMany", "asa{sv}", "1", sys.argv[2], "0"],
                                stdout=subprocess.PIPE, text=True, check=True).stdout
        job = answer.split('"')[1]
        meanwhile = memory_until_open(sys.argv[2], job, ["cofferd", "coffer-reader"])
        opened = time.monotonic()
        time.sleep(1)
        keys = keys_caught()
        print(f"{len(keys)} keys of 64 bytes went to the kernel")
        print(f"searched from {time.monotonic() - opened:.1f} s after the unlock on")
        print("keys found in:", ", ".join(holders(keys)) or "nothing")
        print("the other secret found in:", ", ".join(holders([other])) or "nothing")
        monitor.terminate()
        monitor.wait()
    table = subprocess.run(["dmsetup", "table", "--showkeys", sys.argv[2]], stdout=subprocess.PIPE, text=True)
    print("the mapping's table names the key:", ":64:logon:" in table.stdout)
    print("the bus was heard:", job.startswith("/org/coffer/Agent1/job/") and job.encode() in file_bytes(HEARD))
    print("places that the hunt does not see:", finds_what_is_there(canary, secret) or "none")
    seen = any(form in data for data in meanwhile for key in keys for form in forms(key))
    print(f"{len(meanwhile)} spans; seen in cofferd or reader meanwhile: {seen}")
    cores = crash()
    print("cores but of the canary:", ", ".join(name for name in cores if not name.startswith("python")) or "none")
    print("after the crash found in:", ", ".join(files_with([*keys, other])) or "nothing")


main()
