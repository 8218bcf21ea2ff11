"""What a run would add to what a dataset's lineage has told, and whether the hospital's budget allows it.

Levels are kept apart: noise per site hides a hospital, noise per record a training row, and neither epsilon
says anything of the other. Runs are composed by the accountant, not added up. A run without noise has no
epsilon: it is counted, and accepted by its own yes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from contracts.manifest import Manifest
from contracts.refusal import Refusal
from privacy_accounting.epsilon import Gaussian, epsilon, planned
from privacy_accounting.subtraction import is_covered, kind_of, odd_one
from site_agent.formatting import printable
from site_agent.ledger.book import LEVELS, Book, Budget, Used
from site_agent.weaknesses import Weakness

UNBOUNDED, SUBTRACTS = "unbounded", "differs-by-one-hospital"


class Spending(Struct, frozen=True, forbid_unknown_fields=True):
    """What some runs of a lineage tell together: epsilon per level at the budget's delta, and how many had no
    noise."""

    site: float
    record: float
    unbounded: int
    runs: int


def used_by(manifest: Manifest, site: str, rows: int) -> Used:
    """The entry of a run in which this site trains on so many rows."""
    own, privacy = manifest.site(site), manifest.aggregation.privacy
    (step,) = planned(privacy, manifest.training, rows) or [Gaussian(0.0, 0.0, 0)]
    return Used(
        manifest=manifest.hash,
        run=manifest.run,
        study=printable(manifest.study, 200),
        at=int(time.time()),
        digest=own.dataset.digest,
        members={member.id: printable(member.name, 200) for member in manifest.sites},
        kind=kind_of(manifest),
        unit="none" if privacy is None else privacy.unit,
        noise=step.noise,
        rate=step.rate,
        steps=step.steps,
    )


def spending_of(runs: Sequence[Used], delta: float) -> Spending:
    """Raises: `privacy.no_account`."""
    found = {
        level: epsilon([Gaussian(one.noise, one.rate, one.steps) for one in runs if one.unit == level], delta)
        for level in LEVELS
    }
    return Spending(found["site"], found["record"], sum(one.unit == "none" for one in runs), len(runs))


class Outlook(Struct, frozen=True, forbid_unknown_fields=True):
    """A lineage's account before and with a run that is not counted yet."""

    names: list[str]
    budget: Budget
    before: Spending
    after: Spending
    weak: list[Weakness]


def outlook(book: Book, *together: Used) -> Outlook:
    """What counting these runs over one dataset would mean. One that is counted already changes nothing and
    asks for nothing."""
    lineage = book.lineage(together[0].digest)
    runs, budget = book.of(lineage), book.budgets.get(lineage, Budget())
    counted = {one.manifest for one in runs}
    fresh = [run for run in together if run.manifest not in counted]
    before, now = spending_of(runs, budget.delta), spending_of([*runs, *fresh], budget.delta)
    weak: dict[str, Weakness] = {}
    for run in fresh:
        for one in _weak(book, run, now.unbounded):
            weak.setdefault(one.name, one)
    return Outlook(book.names(lineage), budget, before, now, list(weak.values()))


def require_budget(found: Outlook) -> None:
    """Raises: `ledger.over_budget` where the run would tell more than the hospital allows."""
    levels: tuple[Literal["site", "record", "unbounded"], ...] = (*LEVELS, "unbounded")
    for level in levels:
        limit, before, after = (getattr(one, level) for one in (found.budget, found.before, found.after))
        if limit is not None and after > max(limit, before):
            facts = {
                "level": WORDS[level],
                "before": f"{before:.4g}",
                "after": f"{after:.4g}",
                "limit": f"{limit:g}",
            }
            raise Refusal("ledger.over_budget", name=", ".join(found.names), **facts)


WORDS = {"site": "epsilon per hospital", "record": "epsilon per row", "unbounded": "runs without noise"}


def _weak(book: Book, run: Used, unbounded: int) -> list[Weakness]:
    found = []
    if run.unit == "none":
        note = "" if unbounded == 1 else f" With it, {unbounded} such runs over these rows are counted."
        words = (
            "It adds no noise: nothing bounds what its result tells about your rows, and no sum of epsilon "
        )
        found.append(Weakness(UNBOUNDED, f"{words}covers it.{note}"))
    for other in reversed(book.used):
        odd = odd_one(run.members, other.members)
        if odd is None or other.kind != run.kind or is_covered(run.unit, other.unit):
            continue
        name, before = {**other.members, **run.members}[odd], f'run {other.run} ("{other.study}")'
        found.append(
            Weakness(
                SUBTRACTS,
                f"This differs from {before} by one hospital, {name}: the difference of the two results is "
                "that hospital's.",
            )
        )
        break
    return found
