"""TDX through the kernel: the source of evidence of the runtime `tdx`."""

from __future__ import annotations

from pathlib import Path

from attestation.sources.launches import read_event_log
from attestation.sources.report_data import require_bound, require_length
from attestation.sources.tsm import REPORTS, quote_from_tsm

EVENT_LOG = Path("/run/fedslice/launches")


class TdxSource:
    """TDX through the kernel's configfs-tsm. A trust domain has no sealing key (docs/decisions/0012).

    What was started in it, `enclave/launcher.py` has written to its event log.
    """

    name = "tdx"

    def __init__(self, directory: Path = REPORTS, event_log: Path = EVENT_LOG) -> None:
        self._directory, self._event_log = directory, event_log

    def quote(self, report_data: bytes) -> bytes:
        """See `Source.quote`."""
        require_length(report_data)
        quote = quote_from_tsm(self._directory, report_data)
        require_bound(quote, report_data)
        return quote

    def event_log(self) -> str | None:
        """See `Source.event_log`."""
        return read_event_log(self._event_log)

    def sealing_key(self, label: str) -> None:
        """None: TDX has no key that outlives the trust domain."""
        return
