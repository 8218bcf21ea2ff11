"""The account of a lineage in words, for the person who approves."""

from __future__ import annotations

from site_agent.formatting import counted, printable
from site_agent.ledger.accounting import Outlook, Spending
from site_agent.ledger.book import LEVELS, Budget
from translations.catalogues import marked, words
from translations.numbers import number

_ = words("site_agent")

LEVEL = {"site": marked("per hospital"), "record": marked("per row")}


def describe_outlook(found: Outlook) -> str:
    """What a dataset has told in all runs that were approved here, and with this one."""
    before, after = found.before, found.after
    lines = [
        _("What %(names)s has told, by %(runs)s approved here before")
        % {"names": _names(found.names), "runs": counted(before.runs, "run")}
    ]
    lines += account(before, found.budget, after)
    lines += [
        _("  Approved runs count in full, also if aborted. Epsilons of hospital and row do not add up."),
    ]
    return "\n".join(lines)


def account(spent: Spending, budget: Budget, after: Spending | None = None) -> list[str]:
    """A line for each level, and one for the runs without noise."""
    lines = []
    for level in LEVELS:
        limit = getattr(budget, level)
        now, then = getattr(spent, level), getattr(after or spent, level)
        change = _(" → %(then)s with this run") % {"then": number(f"{then:.3g}")} if then != now else ""
        allowed = (
            _("no budget set") if limit is None else _("budget %(limit)s") % {"limit": number(f"{limit:g}")}
        )
        at = _("epsilon %(now)s%(change)s at delta %(delta)s; %(allowed)s") % {
            "now": number(f"{now:.3g}"),
            "change": change,
            "delta": number(f"{budget.delta:g}"),
            "allowed": allowed,
        }
        lines.append(f"  {_(LEVEL[level]):<13}{at}")
    runs = (after or spent).unbounded
    change = _(" → %(runs)s with this one") % {"runs": runs} if runs != spent.unbounded else ""
    allowed = (
        "" if budget.unbounded is None else _("; %(unbounded)s allowed") % {"unbounded": budget.unbounded}
    )
    return [
        *lines,
        _("  unbounded    %(unbounded)s without noise%(change)s%(allowed)s")
        % {"unbounded": counted(spent.unbounded, "run"), "change": change, "allowed": allowed},
    ]


def _names(names: list[str]) -> str:
    return ", ".join(f'"{printable(name, 100)}"' for name in names)
