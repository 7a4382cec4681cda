# SPDX-License-Identifier: Apache-2.0
"""The same work again and again: nothing may grow, and nothing may be left."""

from scenario import VOLUMES, scenario

PROGRAMS = ["cofferd.service", "coffer-worker.service", "coffer-vault@local.service"]
ROUNDS, WARM = 60, 10


@scenario(timeout=1800, long=True, host=True)
def nothing_grows_over_many_rounds(s):
    """All volumes lock and unlock many times: no memory, open file, key or mapping is left over."""
    host = s.host()
    host.unmount(VOLUMES)
    host.machine.must("sed -i '/^.dev.mapper/d' /etc/fstab; systemctl daemon-reload")
    for number in range(1, ROUNDS + 1):
        host.lock(VOLUMES)
        assert not host.mappings() & set(VOLUMES)
        host.unlock(VOLUMES)
        if number == WARM:
            before = usage(host)
    after = usage(host)
    for program in PROGRAMS:
        (memory, files), (memory_then, files_then) = after[program], before[program]
        s.log(f"{program}: {memory_then} -> {memory} KiB, {files_then} -> {files} open files")
        assert memory <= memory_then + 2048, f"{program} grew"
        assert files <= files_then, f"{program} keeps files open"
    assert after["keys"] == before["keys"], (before["keys"], after["keys"])
    verdict = host.machine.must("coffer audit verify --json")
    s.log(f"audit: {verdict.strip()}")


def usage(host):
    """Program -> (KiB of its own memory, open files), and the number of keys in the kernel."""
    found = {}
    for program in PROGRAMS:
        pid = host.machine.must(f"systemctl show -p MainPID --value {program}").strip()
        memory = host.machine.must(f"awk '/^RssAnon|^RssShmem/ {{n += $2}} END {{print n}}' /proc/{pid}/status")
        files = host.machine.must(f"ls /proc/{pid}/fd | wc -l")
        found[program] = int(memory), int(files)
    found["keys"] = host.machine.must("wc -l </proc/keys").strip()
    return found
