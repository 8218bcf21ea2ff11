"""Lock what a hospital and what the coordinator install to the bytes of the very wheels.

    python .ci/lock.py [--write]

`requirements-site.lock`, `-token.lock`, `-enclaves.lock` and `-coordinator.lock` name every package, the
needed ones of the needed too, by version and SHA-256: at the versions of the environment that runs this, the
one in which the tests pass. pip resolves them (`pip install --dry-run --report`), for CPython 3.11 on Linux
x86-64; torch is its CPU build. `pip install --require-hashes --requirement …lock` then installs these bytes
or nothing. Without `--write` this checks, without a network, that each lock holds every pin of its
requirements.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
LOCKS = {
    "requirements-site.lock": ("requirements-site.txt",),
    # Beside it, where the approval key is on a token.
    "requirements-token.lock": ("requirements-token.txt",),
    # In the enclaves' image, to render and sign their manifests.
    "requirements-enclaves.lock": ("requirements-enclaves.txt",),
    # The server enclaves run at the coordinator, so it has what a site has, too.
    "requirements-coordinator.lock": ("requirements-site.txt", "requirements-coordinator.txt"),
}
PIN = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)$", re.MULTILINE)
LOCKED = re.compile(r"^([\w.-]+)==(\S+) --hash=sha256:([0-9a-f]{64})$", re.MULTILINE)


def plain(name: str) -> str:
    """PEP 503: one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def stale(lock: str, tree: Path = TREE) -> list[str]:
    """What is wrong with a lock: pins that it does not hold, and lines that are no locked package."""
    path = tree / lock
    if not path.is_file():
        return [f"{lock} is missing"]
    text = path.read_text()
    locked = {plain(name): version.partition("+")[0] for name, version, _sha in LOCKED.findall(text)}
    faults = [
        f"{lock}: {name} is to be {version} and is {locked.get(plain(name), 'not there')}"
        for file in LOCKS[lock]
        for name, version in PIN.findall((tree / file).read_text())
        if locked.get(plain(name)) != version
    ]
    others = [line for line in text.splitlines() if line and line[0] != "#" and not LOCKED.match(line)]
    return faults + [f"{lock}: not locked: {line}" for line in others]


def write(lock: str) -> None:
    """Resolve and write one lock; asks pip's index."""
    with tempfile.TemporaryDirectory() as folder:
        here, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        own = {plain(item.metadata["Name"]): item.version for item in distributions()}
        here.write_text("".join(f"{name}=={version}\n" for name, version in sorted(own.items())))
        wanted = [word for file in LOCKS[lock] for word in ("--requirement", str(TREE / file))]
        subprocess.run(  # noqa: S603 - the command is ours, without a shell
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"),
                *("--only-binary", ":all:", "--constraint", str(here), "--report", str(report), *wanted),
            ],
            check=True,
        )
        installs = json.loads(report.read_text())["install"]
    lines = sorted(
        f"{plain(item['metadata']['name'])}=={item['metadata']['version']}"
        f" --hash=sha256:{item['download_info']['archive_info']['hashes']['sha256']}"
        for item in installs
    )
    made = f"Locked by `python .ci/lock.py --write` from {' and '.join(LOCKS[lock])}"
    head = f"# {made}; CPython 3.11, Linux x86-64."
    (TREE / lock).write_text("\n".join([head, *lines]) + "\n")


def main() -> int:
    """Check the locks, or write them again."""
    if sys.argv[1:] == ["--write"]:
        for lock in LOCKS:
            write(lock)
    faults = [fault for lock in LOCKS for fault in stale(lock)]
    advice = "run `python .ci/lock.py --write` and review what changed"
    sys.stderr.write("".join(f"{fault}; {advice}\n" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
