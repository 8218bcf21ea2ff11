"""Sources of evidence: where a program gets a quote over 64 bytes of its own choosing, and its sealing key.

Runs inside the trust boundary. Each source checks that the quote it hands out really binds what was asked
for: the interfaces behind them are shared with, or answered by, a host that may be hostile. Whether the quote
is any good is not judged here; that is the relying party's appraisal. A program loads the source of its own
runtime alone: on hardware nothing of the development platform is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from contracts.policy import Program
from contracts.refusal import Refusal


class Source(Protocol):
    """Where evidence comes from. `name` is the runtime's name in evidence and logs."""

    name: str

    def quote(self, report_data: bytes) -> bytes:
        """A quote over exactly 64 bytes.

        Raises: `source.*`.
        """

    def event_log(self) -> str | None:
        """What was started in a trust domain (contracts/launch.py); None where the quote says that itself."""

    def sealing_key(self, label: str) -> bytes | None:
        """32 bytes that only this program on this machine gets again; None where the TEE has no such key."""


def open_source(
    runtime: str,
    *,
    platform: Path | None = None,
    program: Program | None = None,
    mailbox: Path = Path(),
) -> Source:
    """The source for a runtime: `sgx` (Gramine), `tdx` (configfs-tsm), `development`, `direct`.

    `platform` is the folder of the development platform (development and direct only). `program` is what
    the development measurement is of; by default the program that this process was started as. Where the
    platform plays TDX, its trust domain lies in `mailbox`.

    Raises: `source.*`, `development.*`, `measurement.missing`.
    """
    if runtime == "sgx":
        from attestation.sources.gramine import GramineSource

        return GramineSource()
    if runtime == "tdx":
        from attestation.sources.tdx import TdxSource

        return TdxSource()
    if runtime in ("development", "direct"):
        from attestation.sources.development import open_played

        return open_played(platform, program, mailbox)
    raise Refusal("source.unknown_runtime", runtime=runtime[:40])
