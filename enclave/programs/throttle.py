"""Progress of a step, passed on to the host now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contracts.progress import Progress
    from enclave.programs.program import Report

REPORT_SECONDS = 0.5


def throttle(report: Report) -> Report:
    """Pass a step's progress on: its beginning, its end, and at most every REPORT_SECONDS between."""
    last = 0.0

    def tell(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if 0 < progress.done < progress.of and now - last < REPORT_SECONDS:
            return
        last = now
        report(progress)

    return tell
