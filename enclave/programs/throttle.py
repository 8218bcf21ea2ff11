"""Progress of a step, passed on to the host now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enclave.programs.program import Report
    from enclave.training.loop import Progress

REPORT_SECONDS = 0.5


def throttle(report: Report) -> Callable[[Progress], None]:
    """Pass a step's progress on: its beginning, its end, and at most every REPORT_SECONDS between."""
    last = 0.0

    def tell(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if progress.rows < progress.total and now - last < REPORT_SECONDS:
            return
        last = now
        report(
            {
                "stage": progress.stage,
                "done": progress.rows,
                "of": progress.total,
                "rows_per_second": round(progress.rows_per_second, 2),
            }
        )

    return tell
