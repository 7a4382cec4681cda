# SPDX-License-Identifier: Apache-2.0
"""The machine itself works: what every other scenario takes for granted."""

import time

from scenario import scenario


@scenario()
def cold_boot_reaches_login_prompt(s):
    """An ordinary image boots to a login prompt, without a failed unit, and shuts down cleanly."""
    m = s.machine()
    m.boot()
    s.log(f"login prompt {m.wait_for_login():.1f} s after power-on")
    state = m.wait_ready()
    assert state == "running", m.must("systemctl --failed")
    s.log(m.must("systemd-analyze time").splitlines()[0])
    m.shut_down()
    assert "Power down" in m.console()


@scenario()
def resumed_guests_are_independent(s):
    """A frozen guest resumes with the right time, its own random numbers and its own disk."""
    first, second = s.resumed("first"), s.resumed("second")
    s.log("both answer")
    numbers = {m.must("od -An -tx1 -N16 /dev/urandom") for m in (first, second)}
    assert len(numbers) == 2, "two guests drew the same random numbers"
    first.must("touch /root/only-here")
    assert second.run("test -e /root/only-here").status != 0
    for m in (first, second):
        before = time.time()
        now = int(m.must("date +%s"))
        # A resumed guest is told the time by a message, which may take a while.
        assert before - 20 < now < time.time() + 1, (before, now, time.time())


@scenario()
def disks_come_and_go(s):
    """A hot-added disk appears under its serial number, and goes when it is pulled out."""
    m = s.resumed()
    disk = m.add_disk("hot0001", size_mb=8)
    s.log(f"link there after {m.wait_disks([disk]):.1f} s")
    m.must(f"echo kept | dd of={disk.by_id} conv=fsync status=none")
    assert disk.path.read_bytes().startswith(b"kept")
    m.unplug(disk)
    m.wait_until(f"! test -e {disk.by_id}")


@scenario()
def luks_volume_opens_with_dm_crypt(s):
    """A LUKS2 volume made by cryptsetup opens in the guest, and its ciphertext is on the disk."""
    m = s.resumed()
    disk = m.add_disk("luks0001", size_mb=32)
    m.wait_disks([disk])
    m.must("head -c 64 /dev/urandom > /run/key")
    m.must(f"cryptsetup luksFormat --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "
           f"{disk.by_id} /run/key", timeout=120)
    m.must(f"cryptsetup open --key-file /run/key {disk.by_id} plain")
    m.must("echo plaintext-marker | dd of=/dev/mapper/plain conv=fsync status=none")
    assert "aes-xts-plain64" in m.must("dmsetup table plain")
    m.must("cryptsetup close plain")
    assert b"plaintext-marker" not in disk.path.read_bytes()


@scenario(timeout=600, long=True)
def power_cut_keeps_what_was_synced(s):
    """After a power cut the same disks boot again, with all that had been synced."""
    m = s.machine()
    disk = m.add_disk("cut0001", size_mb=8)
    m.boot()
    m.must(f"udevadm settle; echo synced > /root/kept && sync; "
           f"echo synced | dd of={disk.by_id} conv=fsync status=none", timeout=120)
    m.cut_power()
    m.boot()
    s.log(f"login prompt {m.wait_for_login():.1f} s after power came back")
    assert m.must("cat /root/kept") == "synced\n"
    assert m.must(f"head -c 7 {disk.by_id}") == "synced\n"
    assert m.wait_ready() == "running", m.must("systemctl --failed")
