#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev capabilities: which kinds of keys each kind of token makes, as a table.

What it prints is what KeyVaultContract.AKindThatTheTokenShowsIsMade saw and made on each of them.
"""

import subprocess
import sys
from pathlib import Path

BIN = Path(__file__).resolve().parent.parent / "build/dev/bin"
PROGRAMS = {
    "development_vault_test": "development vault",
    "pkcs11_vault_contract_test": "PKCS#11",
    "rooted_vault_contract_test": "PKCS#11",
    "tpm_vault_contract_test": "PKCS#11, TPM 2.0",
    "sdf_vault_contract_test": "SDF (GM/T 0018)",
    "vault_process_contract_test": "coffer-vault, PKCS#11",
    "sdf_vault_process_test": "coffer-vault, SDF",
}
LETTERS = {"resident": "T", "wrapped": "W", "rooted": "R"}


def run(program):
    """What one program found: {maker: {(algorithm, usage): {protection}}}."""
    command = [BIN / program, "--gtest_filter=*AKindThatTheTokenShowsIsMade*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{program} failed:\n{done.stdout}{done.stderr}")
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith("capability "):
            _, maker, algorithm, usage, protection = line.split()
            found.setdefault(maker, {}).setdefault((algorithm, usage), set()).add(protection)
    return found


def print_table(rows):
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def main():
    makers = {}
    for program, kind in PROGRAMS.items():
        for maker, found in run(program).items():
            makers[f"{kind}: {maker}"] = found
    kinds = sorted({kind for found in makers.values() for kind in found})
    rows = [["algorithm", "usage", *(str(i + 1) for i in range(len(makers)))]]
    for kind in kinds:
        cells = (found.get(kind, set()) for found in makers.values())
        rows.append([*kind, *("".join(sorted(LETTERS[p] for p in cell)) or "-" for cell in cells)])
    print_table(rows)
    print("\nT resident in the token, W wrapped by it, R rooted: closed by the token, used by the vault")
    for i, maker in enumerate(makers):
        print(f"{i + 1:2}  {maker}")


if __name__ == "__main__":
    main()
