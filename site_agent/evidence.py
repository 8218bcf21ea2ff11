"""An enclave's evidence as this site judges it: by the policy of the manifest that its own people approved.

The coordinator brings the evidence and is not believed: what it sends is read strictly, and appraised here.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from attestation.appraisal import Appraisal, appraise, require
from attestation.floors import Floors
from contracts.evidence import Evidence, Expected
from contracts.manifest import Manifest
from contracts.policy import Program
from contracts.refusal import Refusal
from enclave.programs.clock import Clock
from site_agent.files import write_private

FLOORS = "floors.json"


class FloorBook:
    """The floors of this site, over all its runs: numbers of collateral that it accepted. They only rise."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FLOORS

    def load(self) -> Floors:
        """Raises: `agent.state_damaged`: to begin again would be to forget."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Floors)
        except FileNotFoundError:
            return Floors()
        except (OSError, msgspec.DecodeError) as error:
            raise Refusal("agent.state_damaged", file=FLOORS) from error

    def rise(self, accepted: Appraisal) -> None:
        """Keep the numbers of an accepted appraisal where they are higher."""
        before = self.load()
        after = before.raised(accepted)
        if after != before:
            write_private(self._path, msgspec.json.encode(after))


class Verifier:
    """Verifies evidence of the enclaves with one program in one run. It begins with the manifest's floors
    and with those that this site has seen in any run, kept in the state folder `folder`; what it accepts
    raises them."""

    def __init__(self, manifest: Manifest, program: Program, folder: Path) -> None:
        self._manifest, self._program = manifest, program
        self._floors, self._clock = FloorBook(folder), Clock(manifest.minimum_time)

    def evidence(self, evidence: Evidence, nonce: str) -> Evidence:
        """The evidence, which answers `nonce` and was found good; its claims say whose keys they are.

        Raises: `program.clock_below_floor` or the code of the failed check.
        """
        expected = Expected(nonce, self._manifest.hash, self._program)
        policy = self._manifest.policy
        at, floors = self._clock.now(), self._floors.load()
        appraisal = appraise(evidence, policy, at=at, expected=expected, floors=floors)
        require(appraisal)
        self._floors.rise(appraisal)
        return evidence
