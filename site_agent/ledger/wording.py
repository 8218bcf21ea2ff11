"""The account of a lineage in words, for the person who approves."""

from __future__ import annotations

from site_agent.formatting import counted, printable
from site_agent.ledger.accounting import Outlook, Told
from site_agent.ledger.book import LEVELS, Budget

LEVEL = {"site": "per hospital", "record": "per row"}


def describe_outlook(found: Outlook) -> str:
    """What a dataset has told in all runs that were approved here, and with this one."""
    before, after = found.before, found.after
    lines = [f"What {_names(found.names)} has told, by {counted(before.runs, 'run')} approved here before"]
    lines += account(before, found.budget, after)
    lines += [
        "  Approved runs count in full, also if aborted. Epsilons of hospital and row do not add up.",
    ]
    return "\n".join(lines)


def account(told: Told, budget: Budget, after: Told | None = None) -> list[str]:
    """A line for each level, and one for the runs without noise."""
    lines = []
    for level in LEVELS:
        limit = getattr(budget, level)
        now, then = getattr(told, level), getattr(after or told, level)
        change = f" → {then:.3g} with this run" if then != now else ""
        allowed = "no budget set" if limit is None else f"budget {limit:g}"
        lines.append(f"  {LEVEL[level]:<13}epsilon {now:.3g}{change} at delta {budget.delta:g}; {allowed}")
    runs = (after or told).unbounded
    change = f" → {runs} with this one" if runs != told.unbounded else ""
    allowed = "" if budget.unbounded is None else f"; {budget.unbounded} allowed"
    return [*lines, f"  unbounded    {counted(told.unbounded, 'run')} without noise{change}{allowed}"]


def _names(names: list[str]) -> str:
    return ", ".join(f'"{printable(name, 100)}"' for name in names)
