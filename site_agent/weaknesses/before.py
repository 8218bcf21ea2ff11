"""Where a manifest is weaker than the one that was approved here last, whatever study that was for.

A coordinator that lowers its demands a little from run to run would never fall below a fixed floor. What grew
with the number of hospitals counts as lower only where it is not all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import asdict

from attestation.floors import Floor, Floors
from contracts.manifest import Aggregation, Manifest, Privacy, PublicFront
from contracts.policy import Policy, Program, SgxReference, TdxReference
from contracts.releases import EXPORT, SEALED
from site_agent.weaknesses.kinds import Weakness
from translations.catalogues import words

_ = words("site_agent")

PACKAGED = (SEALED, EXPORT)
RELEASES = ("nothing", "serve-only", *PACKAGED)
MONTH = 30 * 24 * 3600
"""How long a set of collateral is in date, in seconds: no clock needs to be that late."""


def since(manifest: Manifest, previous: Manifest | None) -> Iterator[Weakness]:
    """Each demand that `previous` made, and this manifest makes no more."""
    if previous is None:
        return
    if previous.policy.root == manifest.policy.root:
        yield from _of_policy(manifest.policy, previous.policy)
        yield from _of_collateral(manifest.policy, previous.policy)
    yield from _of_clock_and_witnesses(manifest, previous)
    yield from _of_parties(manifest, previous)
    yield from _of_averaging(manifest.aggregation, previous.aggregation)
    yield from _of_method(manifest, previous)


def _of_policy(policy: Policy, previous: Policy) -> Iterator[Weakness]:
    if previous.root_sha256 != policy.root_sha256:
        yield Weakness(
            "changed-root", _("Its trust root is another one than in what was approved here last.")
        )
    more = set(policy.accepted_statuses) - set(previous.accepted_statuses)
    if more:
        yield Weakness(
            "more-statuses",
            _("More TCB statuses than before: %(names)s.") % {"names": ", ".join(sorted(more))},
        )
    advisories = set(policy.accepted_advisories) - set(previous.accepted_advisories)
    if advisories:
        listed = ", ".join(sorted(advisories)[:8])
        yield Weakness(
            "more-advisories",
            _("Security advisories are accepted that were not before: %(told)s.") % {"told": listed},
        )
    for reference in policy.references:
        program = reference.program
        if isinstance(reference, TdxReference):
            known = _modules(previous, program)
            if known and (not reference.mrseams or set(reference.mrseams) - known):
                yield Weakness(
                    f"more-modules-{program}",
                    _("The %(program)s may run under TDX modules that were not accepted before.")
                    % {"program": program},
                )
            continue
        least = _least_svn(previous, program)
        if reference.mrenclave is None and least is not None and (reference.minimum_svn or 0) < least:
            yield Weakness(
                f"lower-svn-{program}",
                _(
                    "An older security version of the %(program)s is accepted than before (%(value)s, "
                    "not %(least)s)."
                )
                % {"program": program, "value": reference.minimum_svn or 0, "least": least},
            )


def _modules(policy: Policy, program: Program) -> set[str]:
    """The TDX modules that a policy names for a program; none where it takes any of Intel's."""
    named = [
        one.mrseams for one in policy.references if isinstance(one, TdxReference) and one.program == program
    ]
    return {mrseam for mrseams in named for mrseam in mrseams} if all(named) else set()


def _least_svn(policy: Policy, program: Program) -> int | None:
    """The least security version that a policy accepts by a signer; None where it accepts none so."""
    accepted = [
        reference.minimum_svn or 0
        for reference in policy.references
        if isinstance(reference, SgxReference)
        and reference.program == program
        and reference.mrenclave is None
    ]
    return min(accepted, default=None)


def _of_collateral(policy: Policy, previous: Policy) -> Iterator[Weakness]:
    """The general floor, and those of single kinds of platforms: a floor that is left out is one of zero."""
    least = (policy.minimum_tcb_evaluation, previous.minimum_tcb_evaluation)
    lower = (
        [_("from number %(value)s, before from %(value_2)s") % {"value": least[0], "value_2": least[1]}]
        if least[0] < least[1]
        else []
    )
    now = Floors().under(policy)
    for floor in previous.floors:
        floors = asdict(now.of(policy.root_sha256, floor.fmspc, floor.ca))
        before = asdict(Floor(policy.root_sha256, **asdict(floor)))
        names = [name for name, value in before.items() if isinstance(value, int) and floors[name] < value]
        if names:
            lower.append(
                _("platforms %(fmspc)s (%(ca)s): %(names)s")
                % {"fmspc": floor.fmspc, "ca": floor.ca, "names": ", ".join(names)}
            )
    if lower:
        yield Weakness(
            "older-collateral",
            _("Older statements of Intel's are accepted: %(names)s.") % {"names": "; ".join(lower)},
        )


def _of_clock_and_witnesses(manifest: Manifest, previous: Manifest) -> Iterator[Weakness]:
    if manifest.minimum_time < previous.minimum_time - MONTH:
        yield Weakness("older-clock", _("Its enclaves take an earlier time for the present than before."))
    before, now = (() if one.log is None else one.log.witnesses for one in (previous, manifest))
    if set(before) - set(now):
        yield Weakness(
            "fewer-witnesses",
            _(
                "A witness is missing that watched the log before: without it, hospitals can be shown "
                "two logs."
            ),
        )


def _of_parties(manifest: Manifest, previous: Manifest) -> Iterator[Weakness]:
    """How many hospitals must agree, and what may leave."""
    sites = len(manifest.sites)
    quorum, least = manifest.aggregation.quorum, previous.aggregation.quorum
    if quorum < min(least, sites):
        yield Weakness(
            "lower-quorum",
            _("A round needs %(quorum)s hospitals; before, it needed %(least)s.")
            % {"quorum": quorum, "least": least},
        )
    rules = manifest.release.rule, previous.release.rule
    if rules[0] != EXPORT and RELEASES.index(rules[0]) > RELEASES.index(rules[1]):
        yield Weakness(
            "wider-release",
            _("More may leave than before: %(value)s, not %(value_2)s.")
            % {"value": rules[0], "value_2": rules[1]},
        )
    if rules[0] in RELEASES[1:] and manifest.release.approvals < min(previous.release.approvals, sites):
        yield Weakness(
            "fewer-release-approvals",
            _(
                "%(approvals)s hospitals release the parameters, or have them served; before, "
                "%(approvals_2)s had to sign."
            )
            % {"approvals": manifest.release.approvals, "approvals_2": previous.release.approvals},
        )
    if _is_looser(manifest.release.answers or None, previous.release.answers or None):
        yield Weakness("more-answers", _("A served model gives each hospital more answers than before."))
    pools = manifest.publication, previous.publication
    if pools[0].sites < min(pools[1].sites, sites) or pools[0].rows < pools[1].rows:
        yield Weakness(
            "smaller-pool",
            _(
                "Scores are published of %(sites)s sites and %(rows)s rows together; before, of "
                "%(sites_2)s and %(rows_2)s."
            )
            % {
                "sites": pools[0].sites,
                "rows": pools[0].rows,
                "sites_2": pools[1].sites,
                "rows_2": pools[1].rows,
            },
        )
    if 0 < pools[0].cells < pools[1].cells:
        yield Weakness(
            "finer-tables",
            _("Counts of the test are told in multiples of %(cells)s rows; before, of %(cells_2)s.")
            % {"cells": pools[0].cells, "cells_2": pools[1].cells},
        )


def _of_averaging(rules: Aggregation, previous: Aggregation) -> Iterator[Weakness]:
    if rules.instances > previous.instances:
        yield Weakness(
            "more-instances",
            _("A client slice may begin %(instances)s times, not %(instances_2)s.")
            % {"instances": rules.instances, "instances_2": previous.instances},
        )
    if _is_looser(rules.clip, previous.clip):
        yield Weakness(
            "looser-clip", _("One hospital may change the parameters more in a round than before.")
        )
    if _is_looser(rules.max_samples, previous.max_samples):
        yield Weakness("larger-weight", _("One hospital may count for more rows in the mean than before."))
    if rules.privacy and previous.privacy and _is_weaker(rules.privacy, previous.privacy):
        yield Weakness(
            "less-noise", _("Its noise hides less than before: a unit, a noise or a delta is weaker.")
        )


def _is_looser(bound: float | None, previous: float | None) -> bool:
    return previous is not None and (bound is None or bound > previous)


def _is_weaker(privacy: Privacy, previous: Privacy) -> bool:
    """What hides a hospital hides its rows, and not the other way round. What no noise means, the ledger
    asks (`unbounded`), and with how much epsilon all runs come."""
    if privacy.unit != previous.unit:
        return privacy.unit == "record"
    return privacy.noise < previous.noise or privacy.delta > previous.delta


def _of_method(manifest: Manifest, previous: Manifest) -> Iterator[Weakness]:
    masking = manifest.masking, previous.masking
    if masking[0] and masking[1] and masking[0].repetitions < masking[1].repetitions:
        yield Weakness("fewer-checks", _("Fewer secret vectors check an accelerator's answers than before."))
    if manifest.front and previous.method == "method-1":
        yield from _of_front(manifest.front, previous.front)
    shares, before = (None if one.split is None else one.split.shares for one in (manifest, previous))
    sites = len(manifest.sites)
    if shares and previous.split and (before is None or shares.threshold < min(before.threshold, sites)):
        yield Weakness(
            "fewer-shares",
            _(
                "The hosts of %(threshold)s hospitals can open the server's state together with the "
                "coordinator; before, it took more, or the state lay under a key of the server's TEE."
            )
            % {"threshold": shares.threshold},
        )


def _of_front(front: PublicFront, previous: PublicFront | None) -> Iterator[Weakness]:
    if previous is None:
        yield Weakness(
            "public-front",
            _(
                "What the first %(first)s layers make of a hospital's texts is its host's word, of which "
                "a sample is checked; before, its enclave computed it."
            )
            % {"first": front.first},
        )
    elif front.sample < previous.sample:
        yield Weakness(
            "smaller-sample",
            _(
                "Of a hospital's features, %(sample)s rows of each kind are computed again; before, "
                "%(sample_2)s."
            )
            % {"sample": front.sample, "sample_2": previous.sample},
        )
