"""Pipes as datasets: what can be read once only is copied to a private file first, within the size limit.

A pipe may have nobody who writes to it, and `<(…)` has a name that means nothing: both are said.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path

from contracts.refusal import Refusal
from site_agent.datasets.formats import MAX_FILE_BYTES
from site_agent.files import private_folder

SAID_AFTER = 2_000  # milliseconds
_DEVICES = (Path("/dev"), Path("/proc"))


def name_of(file: Path) -> str:
    """What a dataset is called after its file.

    Raises: `dataset.unnamed`.
    """
    if any(folder in file.absolute().parents for folder in _DEVICES):
        raise Refusal("dataset.unnamed", file=str(file)[:100])
    return file.name.split(".")[0]


@contextlib.contextmanager
def spooled(files: Sequence[Path], folder: Path, waits: Callable[[Path], None]) -> Iterator[list[Path]]:
    """The files, with a copy in `folder` (mode 0700) in place of each pipe; copies are gone afterwards.

    `waits` is told of a pipe to which nobody has written for two seconds.

    Raises: `dataset.unreadable` or `dataset.too_large`.
    """
    with contextlib.ExitStack() as stack:
        yield [_copied(file, folder, stack, waits) if _is_pipe(file) else file for file in files]


def _is_pipe(file: Path) -> bool:
    try:
        mode = file.stat().st_mode
    except OSError:
        return False  # the reader says what is wrong with it
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISDIR(mode)):
        raise Refusal("dataset.unreadable", file=file.name, fault="it is neither a file nor a pipe")
    return stat.S_ISFIFO(mode)


def _copied(pipe: Path, folder: Path, stack: contextlib.ExitStack, waits: Callable[[Path], None]) -> Path:
    private = Path(
        stack.enter_context(tempfile.TemporaryDirectory(prefix=".pipe-", dir=private_folder(folder)))
    )
    target, size = private / pipe.name, 0
    try:
        with (
            # Opened without waiting for a writer: so that the wait, which poll does, can be told of.
            FileIO(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as source,
            os.fdopen(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as copy,
        ):
            while block := _next(source, lambda: waits(pipe)):
                size += len(block)
                if size > MAX_FILE_BYTES:
                    raise Refusal("dataset.too_large", limit=MAX_FILE_BYTES >> 30)
                copy.write(block)
    except OSError as error:
        raise Refusal("dataset.unreadable", file=pipe.name, fault=error.strerror or "unknown") from error
    return target


def _next(source: FileIO, waits: Callable[[], None]) -> bytes:
    """The next bytes; none at the end, which comes when a writer has been there and closed it."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    if not poll.poll(SAID_AFTER):
        waits()
        poll.poll()
    while (block := source.read(1 << 20)) is None:  # what another reader took away is not the end
        poll.poll()
    return block
