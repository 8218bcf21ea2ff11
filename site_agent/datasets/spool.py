"""Pipes as datasets: what can be read once only is copied to a private file first, within the size limit."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from contracts.refusal import Refusal
from site_agent.datasets.formats import MAX_FILE_BYTES
from site_agent.files import private_folder


@contextlib.contextmanager
def spooled(files: Sequence[Path], folder: Path) -> Iterator[list[Path]]:
    """The files, with a copy in `folder` (mode 0700) in place of each pipe; copies are gone afterwards.

    Refuses with `dataset.unreadable` or `dataset.too_large`.
    """
    with contextlib.ExitStack() as stack:
        yield [_copied(file, folder, stack) if _is_pipe(file) else file for file in files]


def _is_pipe(file: Path) -> bool:
    try:
        mode = file.stat().st_mode
    except OSError:
        return False  # the reader says what is wrong with it
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISDIR(mode)):
        raise Refusal("dataset.unreadable", file=file.name, fault="it is neither a file nor a pipe")
    return stat.S_ISFIFO(mode)


def _copied(pipe: Path, folder: Path, stack: contextlib.ExitStack) -> Path:
    private = Path(
        stack.enter_context(tempfile.TemporaryDirectory(prefix=".pipe-", dir=private_folder(folder)))
    )
    target, size = private / pipe.name, 0
    try:
        with (
            pipe.open("rb") as source,
            os.fdopen(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as copy,
        ):
            while block := source.read(1 << 20):
                size += len(block)
                if size > MAX_FILE_BYTES:
                    raise Refusal("dataset.too_large", limit=MAX_FILE_BYTES >> 30)
                copy.write(block)
    except OSError as error:
        raise Refusal("dataset.unreadable", file=pipe.name, fault=error.strerror or "unknown") from error
    return target
