"""The development platform in this process where it plays TDX: quotes whose RTMR3 the launcher extended."""

from __future__ import annotations

from pathlib import Path

from attestation.development_quoting import trust_domain as td
from attestation.development_quoting.platform import DevelopmentPlatform
from attestation.sources.launches import read_event_log
from attestation.sources.report_data import require_length


class DevelopmentTrustDomain:
    """Like a TDX module, it takes nobody's word: the registers are what they are when the quote is made."""

    name = "development"

    def __init__(self, platform: DevelopmentPlatform, mailbox: Path) -> None:
        self._platform, self._folder = platform, mailbox / td.FOLDER

    def quote(self, report_data: bytes) -> bytes:
        """See `Source.quote`."""
        require_length(report_data)
        rtmrs = (td.RTMR0, td.RTMR1, td.RTMR2, td.rtmr3(self._folder))
        return self._platform.tdx_quote(report_data, mrtd=td.MRTD, rtmrs=rtmrs)

    def event_log(self) -> str | None:
        """See `Source.event_log`."""
        return read_event_log(self._folder / td.EVENT_LOG)

    def sealing_key(self, label: str) -> bytes | None:
        """32 bytes from the platform's secret, RTMR3 and the label; None where it has no secret, as TDX."""
        return self._platform.sealing_key(td.rtmr3(self._folder), label)
