"""What this site knows for itself about the code that a manifest trusts, without the coordinator's word.

The coordinator brings the release statement and is not believed: the fingerprint of the key that must have
signed it was typed at enrolment, and the newest statement that was seen stays here.
"""

from __future__ import annotations

import time

from attestation.development import platform_root_sha256
from attestation.measurement import measure
from attestation.trust_domain import development_reference
from contracts.agents_api.endpoint import given
from contracts.agents_api.log import RELEASE_STATEMENT
from contracts.canonical import canonical
from contracts.manifest import Manifest
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from contracts.release_statement import (
    ReleaseStatement,
    SignedReleaseStatement,
    judge_statement,
    parse_statement,
)
from site_agent.enrolment import needs_platform
from site_agent.files import write_private
from site_agent.state import State
from site_agent.transport import Coordinator
from site_agent.weaknesses import Known

STATEMENT = "release-statement.json"


def known_here(
    state: State, coordinator: Coordinator, manifest: Manifest, previous: Manifest | None
) -> Known:
    """What the manifest is to be compared with. `previous` was approved here last.

    Raises: a `release_statement.` code where a release key was pinned and its statement cannot be had.
    """
    programs = {reference.program for reference in manifest.policy.references}
    development = needs_platform(state.config.runtime)
    return Known(
        root_sha256=platform_root_sha256(state.platform) if development else None,
        own={program: measure(program) for program in sorted(programs)} if development else {},
        trust_domains={program: development_reference(program) for program in sorted(programs)},
        statement=release_statement(state, coordinator),
        previous=previous,
    )


def release_statement(state: State, coordinator: Coordinator) -> ReleaseStatement | None:
    """The statement in force; None where no release key was pinned, which only development runtimes allow.

    The newest one is kept.

    Raises: `release_statement.key_not_pinned`, `release_statement.missing`, `release_statement.older`,
    `release_statement.expired`, `release_statement.other_key` or `release_statement.invalid`.
    """
    key = state.config.release_key
    if key is None:
        if needs_platform(state.config.runtime):
            return None
        raise Refusal("release_statement.key_not_pinned")
    newest = kept_statement(state)
    answer = given(coordinator.ask(RELEASE_STATEMENT, Nothing()).statement)
    if answer is None and newest is None:
        raise Refusal("release_statement.missing")
    shown = newest if answer is None else parse_statement(answer)
    assert shown is not None
    said = judge_statement(shown, key=key, now=int(time.time()), newest=newest)
    write_private(state.folder / STATEMENT, canonical(shown))
    return said


def kept_statement(state: State) -> SignedReleaseStatement | None:
    """The newest one that was accepted here."""
    try:
        return parse_statement((state.folder / STATEMENT).read_bytes())
    except FileNotFoundError:
        return None
    except Refusal as error:
        raise Refusal("agent.state_damaged", file=STATEMENT) from error
