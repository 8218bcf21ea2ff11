"""An enclave's evidence as this site judges it: by the policy of the manifest that its own people approved.

The coordinator brings the evidence and is not believed: what it sends is read strictly, and appraised here.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from attestation.appraisal import appraise, require
from attestation.floors import Floors
from contracts.evidence import Claims, Evidence, Expected
from contracts.manifest import Manifest
from contracts.policy import Program
from contracts.refusal import Refusal


class Judge:
    """Of the enclaves with one program in one run. The age of the collateral that was accepted is a floor for
    what follows."""

    def __init__(self, manifest: Manifest, program: Program) -> None:
        self._manifest, self._program = manifest, program
        self._floors = Floors()

    def claims(self, shown: Any, nonce: str) -> Claims:
        """The claims of evidence (decoded JSON) that answers `nonce`.

        Refuses with `agent.bad_answer` or the code of the failed check.
        """
        evidence = read_evidence(shown)
        expected = Expected(nonce, self._manifest.hash, self._program)
        policy = self._manifest.policy
        appraisal = appraise(evidence, policy, at=int(time.time()), expected=expected, floors=self._floors)
        require(appraisal)
        self._floors = self._floors.raised(appraisal)
        return evidence.claims


def read_evidence(shown: Any) -> Evidence:
    """What else stands beside the three parts of evidence is left alone. Refuses with `agent.bad_answer`."""
    try:
        return msgspec.convert({name: shown[name] for name in Evidence.__struct_fields__}, Evidence)
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        raise Refusal("agent.bad_answer", fault="the evidence is not of the agreed form") from error
