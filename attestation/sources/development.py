"""The development platform in this process: the source of evidence of the runtimes `development` and
`direct`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.development_quoting.platform import DevelopmentPlatform, load_platform
from attestation.measured import PROGRAMS
from attestation.measurement import DEVELOPMENT_MRSIGNER, PRODUCT_IDS, SVN, measure
from attestation.sources import Source
from attestation.sources.report_data import require_length
from contracts.policy import Program
from contracts.refusal import Refusal

if TYPE_CHECKING:
    pass


def started_program() -> Program:
    """The enclave program that this process was started as (`python -m enclave.programs.X`): like a
    processor, by what was loaded, not by what a caller says.

    Raises: `source.program_unknown`.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    for program in PROGRAMS:
        if spec is not None and spec.name == f"enclave.programs.{program}":
            return program
    raise Refusal("source.program_unknown")


class DevelopmentSource:
    """SGX quotes v3 under a development root, in this process. The measurement is taken once, at the
    start, as a processor does: later edits of the files change the next process, not this one."""

    name = "development"

    def __init__(self, platform: DevelopmentPlatform, program: Program) -> None:
        self._platform = platform
        self._mrenclave = bytes.fromhex(measure(program))
        self._product_id = PRODUCT_IDS[program]

    def quote(self, report_data: bytes) -> bytes:
        """See `Source.quote`."""
        require_length(report_data)
        return self._platform.sgx_quote(
            report_data,
            mrenclave=self._mrenclave,
            mrsigner=bytes.fromhex(DEVELOPMENT_MRSIGNER),
            product_id=self._product_id,
            svn=SVN,
        )

    def event_log(self) -> None:
        """None: MRENCLAVE says what was loaded."""
        return

    def sealing_key(self, label: str) -> bytes | None:
        """32 bytes from the platform's secret, the measurement and the label; None where it has no secret."""
        return self._platform.sealing_key(self._mrenclave, label)


def open_played(platform: Path | None, program: Program | None, mailbox: Path) -> Source:
    """The source that plays SGX, or TDX where the platform says so.

    Raises: `source.no_platform_given`, `development.*` or `source.program_unknown`.
    """
    if platform is None:
        raise Refusal("source.no_platform_given")
    opened = load_platform(platform)
    if opened.tee == "tdx":
        from attestation.sources.trust_domain import DevelopmentTrustDomain

        return DevelopmentTrustDomain(opened, mailbox)
    return DevelopmentSource(opened, program or started_program())
