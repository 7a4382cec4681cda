# SPDX-License-Identifier: Apache-2.0
"""Host and token are lost: a cold backup, the recovery shares and the disks make another host."""

from coffer_host import CofferHost
from scenario import HEADER_DISK, VOLUMES, scenario

BACKUP, SHARES = "/root/cold", "/root/coffer-recovery"


@scenario(host=True, timeout=1200)
def spare_host_opens_all_volumes(s):
    """On a machine that has never had a token, `coffer init --restore` opens every volume, and each boot after it."""
    lost = s.host("lost")
    m = lost.machine
    m.must("coffer key create papers && echo kept by papers | coffer key encrypt papers > /root/ciphertext")
    s.log(m.must(f"coffer backup {BACKUP}"))
    m.must(f"tar -C / -cf /root/saved.tar {BACKUP[1:]} {SHARES[1:]} root/ciphertext")
    saved = m.pull("/root/saved.tar")
    # What is written after the backup is on the disks, too.
    m.must("echo later > /srv/data1/later; sync")
    m.cut_power()

    spare = CofferHost(s.machine("spare"))
    n = spare.machine
    disks = [m.disk(name) for name in (*VOLUMES, HEADER_DISK)]
    for disk in disks:
        n.plug(disk)
    n.boot()
    n.push(saved, "/root/saved.tar")
    n.must("tar -C / -xf /root/saved.tar")
    n.wait_disks(disks)
    assert n.run("test -e /etc/coffer/host-id").status == 1, "this host is not a new one"
    # Two of the three shares, as they would be typed.
    first, second = n.must(f"ls {SHARES}/*").split()[:2]
    s.log(n.must(f"grep -h . {first} {second} | coffer init --restore {BACKUP}", timeout=300))
    assert_all_open(spare)
    assert n.must("cat /srv/data1/later").strip() == "later"
    n.must("sync")

    n.cut_power()
    n.boot()
    spare.wait_up()
    spare.wait_states({name: "unlocked" for name in VOLUMES})
    assert_all_open(spare)


def assert_all_open(host):
    """Every volume is open with its files, and what a caller encrypted decrypts."""
    m = host.machine
    states = host.states()
    assert states == {name: "unlocked" for name in VOLUMES}, states
    for name in VOLUMES:
        m.must(f"mkdir -p /srv/{name}; mountpoint -q /srv/{name} || mount {mapping(host, name)} /srv/{name}")
    host.assert_files(VOLUMES)
    assert m.must("coffer key decrypt < /root/ciphertext").strip() == "kept by papers"


def mapping(host, name):
    return host.volumes()[name]["MappedDevice"]
