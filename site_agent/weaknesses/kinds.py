"""What a weakness is, and what a site knows for itself and compares a manifest with."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.manifest import Manifest
from contracts.policy import Program, TdxReference
from contracts.release_statement import ReleaseStatement


@dataclass(frozen=True)
class Weakness:
    """`name` is what a script says to accept it, `text` what a person reads."""

    name: str
    text: str


@dataclass(frozen=True)
class Known:
    """What this site knows for itself. `own` is what the installed packages measure, on development runtimes
    alone; `trust_domains` is each program in a development trust domain, whose RTMR3 is the same on hardware;
    `statement` is the release's, None where no release key was pinned; `root_sha256` is the only trust
    root that this site's runtime has; `previous` is the manifest that was approved here last."""

    root_sha256: str | None
    own: dict[Program, str]
    trust_domains: dict[Program, TdxReference]
    statement: ReleaseStatement | None
    previous: Manifest | None
