"""The command `budget`: what each dataset has told over all runs, and how much the hospital lets it tell."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from contracts.refusal import Refusal
from site_agent.formatting import counted, printable
from site_agent.ledger.accounting import Spending, spending_of
from site_agent.ledger.book import Book, Budget, Used, changing, read_book
from site_agent.ledger.wording import account
from site_agent.ledger_rebuild import rebuild
from site_agent.state import State
from translations.catalogues import words

_ = words("site_agent")

Say = Callable[..., None]


def add_budget_command(commands: Any, say: Say) -> None:
    """Add it to the agent's commands."""
    budget = commands.add_parser("budget", help=_("what your datasets have told over all runs, and may tell"))
    budget.add_argument("--json", action="store_true", help=_("say it as JSON"))
    budget.set_defaults(run=lambda chosen: _show(chosen, say))
    verbs = budget.add_subparsers(metavar="VERB")

    verb = verbs.add_parser("show", help=_("the account of each dataset (this is what `budget` alone does)"))
    verb.add_argument("--json", action="store_true", help=_("say it as JSON"))
    verb.set_defaults(run=lambda chosen: _show(chosen, say))

    verb = verbs.add_parser("set", help=_("refuse runs beyond this; `none` takes a limit away"))
    verb.add_argument("name", help=_("of a dataset; its lineage has one budget"))
    verb.add_argument(
        "--per-hospital",
        type=_limit,
        default=...,
        metavar="EPSILON",
        help=_("epsilon per hospital, of all runs"),
    )
    verb.add_argument(
        "--per-row",
        type=_limit,
        default=...,
        metavar="EPSILON",
        help=_("epsilon per training row, of all runs"),
    )
    verb.add_argument(
        "--unbounded", type=_runs, default=..., metavar="RUNS", help=_("how many runs without noise")
    )
    verb.add_argument(
        "--delta", type=_delta, default=..., metavar="DELTA", help=_("at which both epsilons are told (1e-5)")
    )
    verb.add_argument("--json", action="store_true", help=_("say it as JSON"))
    verb.set_defaults(run=lambda chosen: _set(chosen, say))

    verb = verbs.add_parser("rebuild", help=_("count the approved runs again, where the ledger was lost"))
    verb.add_argument("--yes", action="store_true", help=_("do not ask"))
    verb.set_defaults(run=lambda chosen: _rebuild(chosen, say))


def _limit(said: str) -> float | None:
    if said == "none":
        return None
    value = float(said)
    if not 0 <= value < float("inf"):
        raise ValueError(said)
    return value


def _runs(said: str) -> int | None:
    limit = _limit(said)
    return None if limit is None else int(limit)


def _delta(said: str) -> float:
    value = float(said)
    if not 0 < value <= 0.1:
        raise ValueError(said)
    return value


def _show(chosen: argparse.Namespace, say: Say) -> int:
    book = read_book(State.open(chosen.state))
    lineages = list(dict.fromkeys(rows.lineage for rows in book.rows))
    if chosen.json:
        say(json.dumps([_as_json(book, lineage) for lineage in lineages], ensure_ascii=False, indent=2))
        return 0
    if not lineages:
        say(_("No dataset has been added here yet."))
    for lineage in lineages:
        runs, budget = book.of(lineage), book.budgets.get(lineage, Budget())
        names = ", ".join(printable(name, 100) for name in book.names(lineage))
        say(_("%(names)s: %(runs)s approved here") % {"names": names, "runs": counted(len(runs), "run")})
        say("\n".join(account(spending_of(runs, budget.delta), budget)))
        for used in runs:
            day = time.strftime("%Y-%m-%d", time.localtime(used.at))
            say(
                _("  %(day)s  %(used)s  run %(run)s, %(study)s")
                % {"day": day, "used": _noise(used), "run": used.run, "study": used.study}
            )
        say("")
    return 0


def _noise(used: Used) -> str:
    return {"none": _("without noise"), "site": _("noise per hospital"), "record": _("noise per row")}[
        used.unit
    ]


def _as_json(book: Book, lineage: str) -> dict[str, Any]:
    runs, budget = book.of(lineage), book.budgets.get(lineage, Budget())
    spent: Spending = spending_of(runs, budget.delta)
    return {
        "datasets": book.names(lineage),
        "told": {"per_site": spent.site, "per_row": spent.record, "unbounded": spent.unbounded},
        "budget": {
            "per_site": budget.site,
            "per_row": budget.record,
            "unbounded": budget.unbounded,
            "delta": budget.delta,
        },
        "runs": [
            {
                "run": used.run,
                "manifest": used.manifest,
                "study": used.study,
                "at": used.at,
                "members": used.members,
                "unit": used.unit,
                "noise": used.noise,
                "rate": used.rate,
                "steps": used.steps,
            }
            for used in runs
        ],
    }


def _set(chosen: argparse.Namespace, say: Say) -> int:
    said = {
        "site": chosen.per_hospital,
        "record": chosen.per_row,
        "unbounded": chosen.unbounded,
        "delta": chosen.delta,
    }
    changes = {name: value for name, value in said.items() if value is not ...}
    state = State.open(chosen.state)
    with changing(state) as book:
        rows = next((rows for rows in reversed(book.rows) if rows.name == chosen.name), None)
        if rows is None:
            raise Refusal("ledger.no_lineage", name=printable(chosen.name, 100))
        before = msgspec.structs.asdict(book.budgets.get(rows.lineage, Budget()))
        book.budgets[rows.lineage] = Budget(**{**before, **changes})
    return _show(chosen, say)


def _rebuild(chosen: argparse.Namespace, say: Say) -> int:
    state = State.open(chosen.state)
    say(_("All datasets become one lineage, each approved run counts again in full, and budgets are gone."))
    if not chosen.yes:
        if not sys.stdin.isatty():
            raise Refusal("approval.needs_terminal")
        if input(_("Type yes to count again, Enter to leave: ")).strip().lower() != "yes":
            say(_("Nothing was changed."))
            return 1
    book = rebuild(state)
    say(
        _("Counted again: %(used)s. Set budgets again: python -m site_agent budget set")
        % {"used": counted(len(book.used), "run")}
    )
    return 0
