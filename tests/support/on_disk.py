"""What lies on a disk while programs are at work: files come and go between the listing and the reading."""

from collections.abc import Iterator
from pathlib import Path


def contents(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    """Each file below the folders with its bytes, without those that vanish (a database's journal)."""
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            try:
                if file.is_symlink() or not file.is_file():
                    continue
                yield file, file.read_bytes()
            except FileNotFoundError:
                continue
