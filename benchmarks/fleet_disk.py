"""What many rounds leave on the disk. Called by `benchmarks/fleet.py`.

One run of three simulated sites. After each tenth of its rounds all that the retention rule calls due is
forgotten, as if the ten minutes were over for which a file is kept after its last use; what then lies in
blobs and mailboxes is measured. The rule keeps the last rounds, however many there were.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.fleet_engines import Engines
from benchmarks.fleet_runs import installed
from benchmarks.kept_figures import KeptFigures

FORGET = """
from datetime import timedelta
from enclave_jobs import retention
retention.GRACE = timedelta(0)
print(sum(due.bytes for due in retention.forget()))
"""
SECONDS = 900.0


def measure(kept: KeptFigures, folder: Path, engines: Engines, rounds: int) -> None:
    """Tells `disk_mb` after each tenth of the rounds, and how the last compares with the first."""
    with installed(folder, engines, 1) as (consortium, groups):
        place = consortium.installation
        run = consortium.launch(groups[0], rounds=rounds, deadline_seconds=600)
        consortium.start()
        found, forgotten = [], 0.0
        for number in range(rounds // 10, rounds + 1, rounds // 10):
            consortium.until(run, number, "published", seconds=SECONDS / 5)
            forgotten += float(place.shell(FORGET).splitlines()[-1]) / 1e6
            found.append(sum(map(_megabytes, (place.folder / "blobs", place.folder / "supervisor"))))
            kept.tell("disk_mb", found[-1], rounds=number, forgotten_mb=round(forgotten, 1))
        assert consortium.finished(run, seconds=SECONDS / 5)["state"] == "finished"
        kept.tell("disk_mb_ratio", found[-1] / found[0], 1.2, rounds=rounds)


def _megabytes(folder: Path) -> float:
    sizes = 0
    for file in folder.rglob("*"):
        try:
            stands = file.lstat()
        except FileNotFoundError:
            continue
        if file.is_file() and not file.is_symlink():
            sizes += stands.st_size / stands.st_nlink
    return sizes / 1e6
