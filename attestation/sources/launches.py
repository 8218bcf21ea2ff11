"""The launcher's event log, as it goes beside a quote."""

from __future__ import annotations

from pathlib import Path

from contracts.evidence import MAX_EVENT_LOG


def read_event_log(path: Path) -> str | None:
    """The text, cut where no relying party would read on; None where no launcher was here."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_EVENT_LOG).decode("ascii", "replace")
    except OSError:
        return None
