"""A development platform in a folder, and evidence of any enclave on it."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attestation.development import (
    collateral,
    create_platform,
    create_root,
    install_platform,
    issue_platform,
    load_platform,
)
from contracts.evidence import Claims, Evidence, Expected, report_data
from enclave_jobs.runs.models import Run

# The measurements of tests.federation.conftest's `reference_values`.
MEASUREMENTS = {"aggregator": f"{1:064x}", "client_slice": f"{2:064x}"}


@dataclass
class DevelopmentHost:
    """A host with a certified development platform."""

    root: Path
    folder: Path
    pck_chain: bytes

    def evidence(
        self,
        run: Run,
        program: Any = "client_slice",
        *,
        measurement: str | None = None,
        fields: dict[str, str] | None = None,
    ) -> Evidence:
        """Fresh evidence for this run; `measurement` in hex, of an enclave that nobody approved if given."""
        claims = Claims(
            nonce=secrets.token_hex(32),
            hpke_key="ab" * 1216,
            signing_key=secrets.token_hex(32),
            manifest=run.manifest_hash,
            program=program,
        )
        quote = load_platform(self.folder).sgx_quote(
            report_data(claims),
            mrenclave=bytes.fromhex(measurement or MEASUREMENTS[program]),
            mrsigner=bytes(32),
            product_id=0,
            svn=1,
        )
        return Evidence(quote, fields or collateral(self.root, int(time.time())), claims)


def expected(evidence: Evidence) -> Expected:
    """What a relying party that asked for exactly this expects."""
    return Expected(evidence.claims.nonce, evidence.claims.manifest, evidence.claims.program)


def make_platform(settings: Any, folder: Path, name: str = "platform") -> DevelopmentHost:
    create_root(settings.DEVELOPMENT_ROOT_DIR)
    place = folder / name
    chain = issue_platform(settings.DEVELOPMENT_ROOT_DIR, create_platform(place))
    install_platform(place, chain)
    return DevelopmentHost(settings.DEVELOPMENT_ROOT_DIR, place, chain)
