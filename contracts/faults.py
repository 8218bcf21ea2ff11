"""How a process that sees rows or parameters logs a fault: where, and which; never its message."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

from contracts.refusal import Refusal

log = logging.getLogger(__name__)


def log_fault(error: BaseException) -> None:
    """Log where a fault happened, and its type or code. Its message stays inside: it may quote a row."""
    places = " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in reversed(traceback.extract_tb(error.__traceback__))
    )
    kind = error.code if isinstance(error, Refusal) else type(error).__name__
    log.error("internal fault %s at %s", kind, places)
