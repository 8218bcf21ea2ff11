"""The last check: dcap-qvl must come to the same verdict."""

from __future__ import annotations

from attestation import second_opinion
from attestation.checks.examination import Examination, Outcome, Passed
from contracts.refusal import Refusal


def agrees(e: Examination) -> Outcome:
    """Our checks have accepted. dcap-qvl must accept too, with the same TCB status and advisories.

    Raises: `attest.second_opinion`.
    """
    opinion = second_opinion.ask(e.quote, e.collateral, e.root, e.at)
    status, advisories = e.evaluation
    ours = " ".join(["accepted:", status, *advisories])
    if not opinion.accepted or opinion.status != status or set(opinion.advisories) != set(advisories):
        raise Refusal("attest.second_opinion", expected=ours, found=opinion.words)
    return Passed(ours, opinion.words)
