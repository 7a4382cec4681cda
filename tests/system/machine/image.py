# SPDX-License-Identifier: Apache-2.0
"""Makes what a machine boots from: kernel, initrd and disk image.

Three steps, each cached by the hash of what goes into it, slowest first:

  tree      a Debian 12 root folder made by mmdebstrap from the [guest] list of packages.txt
  disk      that tree, the files of guest/root and an installed Coffer, as an ext4 image
  template  a guest booted from the disk and frozen (template.py)

Nothing is mounted and no loop device is used; root is needed for file ownership only.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from . import cache

SYSTEM_TESTS = Path(__file__).resolve().parent.parent
GUEST_FILES = SYSTEM_TESTS / "guest" / "root"
DISK_SIZE = "3G"  # sparse

# What the initrd loads to reach the root disk; what these depend on is loaded before them.
INITRD_MODULES = ["virtio_pci", "virtio_blk", "virtio_console"]
INITRD_INIT = """#!/bin/sh
# Loads the modules of the root disk and goes on there. The line it prints tells the accelerator
# probe that a kernel came up.
/bin/busybox echo "coffer-initrd: up"
for module in {modules}; do /bin/busybox insmod /modules/$module.ko; done
/bin/busybox mount -t devtmpfs dev /dev
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 500 ]; do /bin/busybox usleep 10000; tries=$((tries+1)); done
/bin/busybox mount -t ext4 -o rw /dev/vda /newroot && exec /bin/busybox switch_root /newroot /sbin/init
/bin/busybox echo "coffer-initrd: no root disk"
/bin/busybox poweroff -f
"""


def packages(section):
    """The package names of one section of packages.txt."""
    names, current = [], None
    for line in (SYSTEM_TESTS / "packages.txt").read_text().splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("["):
            current = line.strip("[]")
        elif current == section:
            names += line.split()
    return names


def run(command, **options):
    """Runs a command; its output appears only in the error, when it fails."""
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed ({done.returncode}):\n{done.stdout[-4000:]}")
    return done.stdout


class Image:
    """Kernel, initrd and disk of a Debian 12 guest, with a Coffer in it or without."""

    def __init__(self, folder):
        """An image that was made before."""
        self.folder = Path(folder)
        self.key = self.folder.name
        self.disk = self.folder / "disk.raw"
        self.kernel = self.folder / "vmlinuz"
        self.initrd = self.folder / "initrd"
        self.has_coffer = (self.folder / "has-coffer").exists()

    @classmethod
    def of_build(cls, build, say=lambda text: None):
        """The image with the Coffer of a CMake build folder; plain Debian where it has none."""
        wanted = packages("guest")
        tree = cache.get("tree", cache.digest_of(" ".join(sorted(wanted)), TREE_OPTIONS),
                         lambda made: make_tree(wanted, made / "root"), say)
        with tempfile.TemporaryDirectory(prefix="coffer-stage-") as stage:
            product = Path(stage) / "product"
            product.mkdir()
            if (Path(build) / "cmake_install.cmake").exists():
                install(build, product)
            if not (product / "usr" / "sbin" / "cofferd").exists():
                shutil.rmtree(product)  # units without their programs would only fail
                product.mkdir()
            key = cache.digest_of(tree.name, GUEST_FILES, SYSTEM_TESTS / "guest" / "masked.txt",
                                  Path(__file__), product)
            return cls(cache.get("disk", key,
                                 lambda made: make_disk(tree / "root", product, made), say))


def install(build, product):
    """Installs a build as a package would, under the folder `product`."""
    environment = {"DESTDIR": str(product), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    run(["cmake", "--install", build, "--prefix", "/usr", "--strip"], env=environment)


TREE_OPTIONS = ["--variant=minbase", "--mode=root",
                '--aptopt=APT::Install-Recommends "false"',
                "--dpkgopt=path-exclude=/usr/share/doc/*",
                "--dpkgopt=path-exclude=/usr/share/man/*",
                "--dpkgopt=path-exclude=/usr/share/locale/*",
                # The machine boots with an initrd of its own: no need to make Debian's.
                "--essential-hook=mkdir -p \"$1/etc/initramfs-tools\"; "
                "echo update_initramfs=no > \"$1/etc/initramfs-tools/update-initramfs.conf\"",
                "--dpkgopt=force-confold"]


def make_tree(wanted, root):
    """Makes a Debian 12 tree. A mirror that fails once is asked once more."""
    command = ["mmdebstrap", *TREE_OPTIONS, "--include=" + ",".join(wanted), "bookworm", root]
    try:
        run(command)
    except RuntimeError:
        shutil.rmtree(root, ignore_errors=True)
        run(command)


def make_boot_files(root, folder):
    """Fills `folder` with vmlinuz and initrd of a tree's kernel."""
    kernel = max((root / "boot").glob("vmlinuz-*"))
    shutil.copy(kernel, folder / "vmlinuz")
    make_initrd(root, kernel.name.removeprefix("vmlinuz-"), folder / "initrd")


def make_initrd(root, version, target):
    """An initrd of busybox and the virtio modules: two megabytes, unpacked at once even by TCG."""
    with tempfile.TemporaryDirectory(prefix="coffer-initrd-") as work:
        work = Path(work)
        for name in ["bin", "modules", "proc", "sys", "dev", "newroot"]:
            (work / name).mkdir()
        shutil.copy(root / "bin" / "busybox", work / "bin" / "busybox")
        (work / "bin" / "sh").symlink_to("busybox")
        modules = root / "lib" / "modules" / version
        names = [copy_module(path, work / "modules") for path in modules_in_order(modules)]
        (work / "init").write_text(INITRD_INIT.format(modules=" ".join(names)))
        (work / "init").chmod(0o755)
        with open(target, "wb") as out:
            names = "\n".join(str(p.relative_to(work)) for p in sorted(work.rglob("*")))
            subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=names.encode(),
                           stdout=out, cwd=work, check=True)


def modules_in_order(modules):
    """The files of INITRD_MODULES and what they depend on, each after its own dependencies.

    A module that the kernel has built in is not in modules.dep and is left out.
    """
    ordered = []
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, depends = line.partition(":")
        if Path(path).name.split(".")[0] in INITRD_MODULES:
            # modules.dep names the nearest dependency first.
            ordered += [d for d in reversed(depends.split()) if d not in ordered]
            ordered += [path] if path not in ordered else []
    return [modules / path for path in ordered]


def copy_module(path, target):
    """Copies a kernel module, unpacked; returns its name."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        data = subprocess.run(["xz", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    name = path.name.split(".")[0]
    (target / f"{name}.ko").write_bytes(data)
    return name


def make_disk(tree, product, folder):
    """Fills `folder` with vmlinuz, initrd and disk.raw: the tree under guest files and product."""
    make_boot_files(tree, folder)
    root = folder / "root"
    run(["cp", "-al", tree, root])  # hard links: nothing below may write into an existing file
    lay_over(GUEST_FILES, root)
    lay_over(product, root)
    for unit in (SYSTEM_TESTS / "guest" / "masked.txt").read_text().split():
        link = root / "etc" / "systemd" / "system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    replace(root / "etc" / "machine-id", "c0ffee00c0ffee00c0ffee00c0ffee00\n")
    replace(root / "etc" / "hostname", "coffer-machine\n")
    replace(root / "etc" / "fstab", "")
    run(["systemctl", "--root", root, "enable", "coffer-test-agent.service"])
    run(["systemctl", "--root", root, "set-default", "multi-user.target"])
    if any(product.iterdir()):
        (folder / "has-coffer").touch()
        run(["systemd-sysusers", "--root", root])  # `coffer init` enables the units
    disk = folder / "disk.raw"
    run(["mke2fs", "-q", "-t", "ext4", "-L", "root", "-E", "lazy_itable_init=1,nodiscard",
         "-d", root, disk, DISK_SIZE])
    shutil.rmtree(root)


def lay_over(source, root):
    """Copies a tree over another one, as root's files, replacing what is there."""
    for entry in sorted(source.rglob("*")):
        target = root / entry.relative_to(source)
        if entry.is_dir() and not entry.is_symlink():
            target.mkdir(exist_ok=True)
            continue
        target.unlink(missing_ok=True)
        shutil.copy2(entry, target, follow_symlinks=False)


def replace(path, text):
    path.unlink(missing_ok=True)
    path.write_text(text)
