"""Ask PyPI's advisory service, through pip-audit, about every package of every lock.

    python .ci/audit.py

Exit 0: each was asked about and has no known weakness; 1: weaknesses, or packages nobody was asked about;
3: the service cannot be reached from here, and nothing was checked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
LOCKS = (*TREE.glob("requirements-*.lock"), *TREE.glob("enclave/measured/*.packages"))
UNREACHABLE = 3


def pinned(locks: tuple[Path, ...] = LOCKS) -> str:
    """Every locked package once, as `name==version` lines, without a local label (+cpu)."""
    lines = {
        line.split()[0].partition("+")[0]
        for lock in locks
        for line in lock.read_text().splitlines()
        if line and not line.startswith(("#", " ", "-"))
    }
    return "".join(f"{line}\n" for line in sorted(lines))


def verdict(report: dict[str, list[dict[str, object]]]) -> list[str]:
    """What is wrong by pip-audit's own report: weaknesses, and packages that it skipped."""
    faults = []
    for item in report["dependencies"]:
        if "skip_reason" in item:
            faults.append(f"{item['name']}: not checked: {item['skip_reason']}")
        for found in item.get("vulns") or ():  # type: ignore[attr-defined]
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            faults.append(f"{item['name']} {item['version']}: {found['id']}; fixed in {fixed}")
    return faults


def main() -> int:
    """Write what was found to stderr."""
    asked = pinned()
    done = subprocess.run(  # noqa: S603 - the command is ours, without a shell
        [
            *(sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json"),
            *("--no-deps", "--disable-pip", "--requirement", "/dev/stdin"),
        ],
        input=asked, capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        faults = verdict(json.loads(done.stdout))
    except ValueError:
        faults = None
    packages = asked.count("\n")
    if faults is None or len(faults) >= packages:
        sys.stderr.write("Nothing was checked: PyPI's advisory service cannot be reached from here.\n")
        sys.stderr.write(done.stderr[-500:])
        return UNREACHABLE
    sys.stderr.write("".join(f"{fault}\n" for fault in faults))
    sys.stderr.write(f"{packages} packages were asked about; {len(faults)} faults\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
