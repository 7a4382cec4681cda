#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The unit files hold what they promise: systemd accepts them, and their sandbox keeps its score.

systemd-analyze wants the programs that a unit starts, so the units are checked in a copy whose Exec
lines name a program that is there; everything else is as installed."""
import pathlib
import re
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]
UNITS = SOURCE / "units"
DROP_INS = sorted((UNITS / "examples").glob("*.conf"))  # of the vault, for kinds of HSMs
SCORE_MAX = 1.5
SERVICES = ["cofferd.service", "coffer-vault@.service", "coffer-worker.service",
            "coffer-reader.service", "coffer-boot.service", "coffer-close.service",
            "coffer-pin@.service"]


def copy_units(folder: pathlib.Path) -> list[pathlib.Path]:
    """Copies every unit, templates as an instance, with programs that exist."""
    copies = []
    for unit in sorted(UNITS.glob("*.*")):
        if unit.suffix not in (".service", ".socket", ".slice"):
            continue
        text = re.sub(r"(?m)^(Exec\w+=)/usr/\S+", r"\1/bin/true", unit.read_text())
        copy = folder / unit.name
        copy.write_text(text)
        copies.append(copy)
    return copies


def instance(unit: pathlib.Path) -> str:
    return str(unit).replace("@.", "@local.")


def add_drop_in(folder: pathlib.Path, drop_in: pathlib.Path | None) -> None:
    """Lays a drop-in of the vault beside the copies in the folder."""
    if drop_in:
        (folder / "coffer-vault@.service.d").mkdir()
        (folder / "coffer-vault@.service.d" / drop_in.name).write_text(drop_in.read_text())


def verify(drop_in: pathlib.Path | None = None) -> list[str]:
    """Complaints of systemd-analyze about our own units, the vault's with a drop-in."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        units = [instance(unit) for unit in copy_units(folder)]
        for template in folder.glob("*@.*"):
            pathlib.Path(instance(template)).write_text(template.read_text())
        add_drop_in(folder, drop_in)
        run = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], text=True,
                             capture_output=True, timeout=60)
    lines = [line for line in run.stderr.splitlines() if "coffer" in line]
    if run.returncode != 0 and not lines:
        lines = run.stderr.splitlines() or [f"exit status {run.returncode}"]
    return lines


def boot_cycles() -> list[str]:
    """Ordering cycles of a boot that wants all our units: a single unit alone does not show them."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        copy_units(folder)
        wants = [unit.name.replace("@.", "@local.") for unit in folder.iterdir()]
        (folder / "multi-user.target.d").mkdir()
        (folder / "multi-user.target.d/coffer.conf").write_text(
            "[Unit]\nWants=" + " ".join(sorted(wants)) + "\n")
        run = subprocess.run(["systemd-analyze", "verify", "--man=no", "multi-user.target"],
                             env={"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin"},
                             text=True, capture_output=True, timeout=60)
    return [line for line in run.stderr.splitlines() if "cycle" in line]


def values(unit: str, setting: str) -> set[str]:
    """All values of a setting that may stand several times, each with several words."""
    text = (UNITS / unit).read_text()
    return {word for line in re.findall(rf"(?m)^{setting}=(.*)$", text) for word in line.split()}


def closes_last() -> list[str]:
    """What could still make a mapping, or use one, while coffer-close takes them away at shutdown.

    Units stop in the reverse order of their start, so it must start before all of these."""
    close = "coffer-close.service"
    later = ["coffer-worker.service", "cofferd.service", "local-fs-pre.target"]
    wrong = []
    for unit in later:
        before = unit in values(close, "Before")
        after = (UNITS / unit).exists() and close in values(unit, "After")
        if not before and not after:
            wrong.append(f"{close} is not ordered before {unit}, so not stopped after it")
        if unit in values(close, "After"):
            wrong.append(f"{close} is ordered after {unit}, so stopped before it")
    return wrong


def plain_pin_is_left_alone() -> list[str]:
    """coffer-pin would fail at each start of a vault whose PIN file coffer init did not encrypt."""
    header = (SOURCE / "hsm" / "host_setup.h").read_text()
    written = re.search(r'"(/etc/systemd/\S*@)" \+ token_name \+ "(\S*\.conf)"', header)
    expected = f"!{written.group(1)}%i{written.group(2)}" if written else "the drop-in of coffer init"
    if expected in values("coffer-pin@.service", "ConditionPathExists"):
        return []
    return [f"coffer-pin@.service lacks ConditionPathExists={expected}"]


def restore_is_left_alone() -> list[str]:
    """cofferd would begin state of its own over a restore that was cut off."""
    header = (SOURCE / "hsm" / "host_setup.h").read_text()
    host_id = re.search(r'host_id\(\) const \{ return prefix \+ "(\S+)"', header)
    mark = re.search(r'restore_mark\(\) const \{ return host_id\(\) \+ "(\S+)"', header)
    expected = f"!{host_id.group(1)}{mark.group(1)}" if host_id and mark else "the mark of a restore"
    # All that start it, but for the bus, which asks for the service.
    starters = [unit.name for unit in UNITS.glob("*.s*")
                if "cofferd.service" in values(unit.name, "Wants") | values(unit.name, "Requires")]
    return [f"{unit} lacks ConditionPathExists={expected}"
            for unit in ["cofferd.service", "cofferd.socket", *starters]
            if expected not in values(unit, "ConditionPathExists")]


def score(unit: pathlib.Path) -> float:
    run = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
                         text=True, capture_output=True, timeout=60)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", run.stdout)
    return float(found.group(1)) if found else 10.0


def pages_are_installed() -> list[str]:
    """Units whose Documentation= names no page that is installed."""
    installed = (UNITS / "CMakeLists.txt").read_text()
    wrong = []
    for unit in UNITS.glob("*.s*"):
        pages = re.findall(r"(?m)^Documentation=(.*)$", unit.read_text())
        if unit.suffix in (".service", ".slice") and not pages:
            wrong.append(f"{unit.name} names no page")
        for page in pages:
            name = page.removeprefix("file:///usr/share/doc/coffer/man/")
            if f"docs/man/{name}\n" not in installed.replace(" ", "\n"):
                wrong.append(f"{unit.name}: {page} is not installed")
    return wrong


def scores() -> dict[str, float]:
    """Of each service, and of the vault with each of the drop-ins for an HSM."""
    result = {service: score(UNITS / service) for service in SERVICES}
    for drop_in in DROP_INS:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            copy_units(folder)
            add_drop_in(folder, drop_in)
            result[f"coffer-vault@.service with {drop_in.name}"] = score(folder / "coffer-vault@.service")
    return result


def drop_ins_allow() -> list[str]:
    """Drop-ins that are not installed, and settings that a drop-in sets without any effect."""
    installed = (UNITS / "CMakeLists.txt").read_text()
    wrong = [f"{d.name} is not installed" for d in DROP_INS if f"examples/{d.name}" not in installed]
    vault = (UNITS / "coffer-vault@.service").read_text().splitlines()
    for drop_in in DROP_INS:
        lines = [line for line in drop_in.read_text().splitlines() if line and line[0] not in "#["]
        wrong += [f"{drop_in.name}: {line} is the unit's already" for line in lines if line in vault]
        if not lines:
            wrong.append(f"{drop_in.name} sets nothing")
    return wrong if DROP_INS else ["no drop-ins were found"]


def main() -> int:
    failed = 0
    for drop_in in [None, *DROP_INS]:
        for complaint in verify(drop_in):
            print(f"FAILED verify{f' with {drop_in.name}' if drop_in else ''}: {complaint}")
            failed += 1
    for complaint in drop_ins_allow():
        print(f"FAILED drop-ins: {complaint}")
        failed += 1
    for complaint in pages_are_installed():
        print(f"FAILED documentation: {complaint}")
        failed += 1
    for complaint in boot_cycles():
        print(f"FAILED boot order: {complaint}")
        failed += 1
    for complaint in closes_last():
        print(f"FAILED shutdown order: {complaint}")
        failed += 1
    for complaint in plain_pin_is_left_alone():
        print(f"FAILED plain PIN: {complaint}")
        failed += 1
    for complaint in restore_is_left_alone():
        print(f"FAILED restore: {complaint}")
        failed += 1
    for service, exposure in scores().items():
        verdict = "ok" if exposure <= SCORE_MAX else "FAILED"
        failed += exposure > SCORE_MAX
        print(f"{verdict} {service}: exposure {exposure} (at most {SCORE_MAX})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
