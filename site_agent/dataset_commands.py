"""`python -m site_agent dataset …`: add, list, publish, remove, and make a synthetic one."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contracts.refusal import Refusal
from site_agent.approvals import approved_hashes, approved_manifest
from site_agent.datasets.catalogue import Catalogue, Dataset
from site_agent.datasets.intake import Intake, Wishes
from site_agent.enrolment import connect
from site_agent.state import State
from site_agent.synthetic import HOSPITALS, write_notes
from site_agent.transport import is_passing
from site_agent.words import counted, printable, table

Say = Callable[..., None]


def add_dataset_commands(commands: Any, say: Say) -> None:
    """Add `dataset` and its own commands to the parser."""
    datasets = commands.add_parser("dataset", help="offer datasets; their rows stay here")
    verbs = datasets.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("add", help="check a file, keep it, and publish its card (no rows)")
    verb.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="CSV, TSV, JSON lines, Parquet; gzip is fine"
    )
    verb.add_argument("--name", help="the dataset's name (else the file's)")
    verb.add_argument("--text-column", metavar="NAME")
    verb.add_argument("--label-column", metavar="NAME")
    verb.add_argument("--split-column", metavar="NAME")
    verb.add_argument("--site-column", metavar="NAME")
    verb.add_argument(
        "--only-site", action="append", default=[], metavar="VALUE", help="keep these sites' rows only"
    )
    verb.add_argument("--encoding", help="say it if the file is not UTF-8 and the guess is wrong")
    verb.add_argument("--skip-bad", action="store_true", help="leave unusable rows out (they are listed)")
    verb.add_argument(
        "--public", action="store_true", help="anybody may read these rows: plaintext baselines may use them"
    )
    verb.add_argument("--no-publish", action="store_true", help="keep it, publish later")
    verb.add_argument("--yes", action="store_true", help="publish without asking")
    verb.set_defaults(run=lambda chosen: _add(chosen, say))

    verb = verbs.add_parser("list", help="the datasets that lie here")
    verb.set_defaults(run=lambda chosen: _list(chosen, say))

    verb = verbs.add_parser("publish", help="publish the card of a dataset that was only kept")
    verb.add_argument("name")
    verb.set_defaults(run=lambda chosen: _publish(chosen, say))

    verb = verbs.add_parser("remove", help="withdraw the card and delete the rows here")
    verb.add_argument("name")
    verb.add_argument("--force", action="store_true", help="also where an approved run names it")
    verb.set_defaults(run=lambda chosen: _remove(chosen, say))

    verb = verbs.add_parser("synthetic", help="write made-up triage notes, for trials")
    verb.add_argument("out", type=Path, metavar="OUT.jsonl")
    verb.add_argument("--hospital", type=int, choices=range(1, HOSPITALS + 1), required=True)
    verb.add_argument("--rows", type=int, default=1000)
    verb.add_argument("--seed", type=int, default=1)
    verb.set_defaults(run=lambda chosen: _synthetic(chosen, say))


def _add(chosen: argparse.Namespace, say: Say) -> int:
    state = State.open(chosen.state)
    catalogue = Catalogue(state)
    name = chosen.name or chosen.files[0].name.split(".")[0]
    wishes = Wishes(
        text=chosen.text_column,
        label=chosen.label_column,
        split=chosen.split_column,
        site=chosen.site_column,
        only_sites=tuple(chosen.only_site),
        encoding=chosen.encoding,
        skip_bad=chosen.skip_bad,
    )
    dataset, intake = catalogue.add(chosen.files, name, wishes, chosen.public)
    _show_intake(intake, say)
    _show_card(dataset, say)
    if chosen.no_publish or not (chosen.yes or _agreed()):
        say(f"\nKept, not published. Later: python -m site_agent dataset publish {name!r}")
        return 0
    return _send_card(state, catalogue, dataset, say)


def _agreed() -> bool:
    """A script that gives no terminal has agreed by giving the command."""
    if not sys.stdin.isatty():
        return True
    return input("\nPublish this card? [Y/n] ").strip().lower() in ("", "y", "yes")


def _show_intake(intake: Intake, say: Say) -> None:
    """What was inferred, and what was left out."""
    for name, found in intake.formats:
        say(f"{printable(name, 80)}: {found}")
    columns = intake.columns
    if columns is not None:
        say(f"text column {printable(columns.text, 64)!r}, label column {printable(columns.label, 64)!r}")
        if columns.site:
            say(f"site column {printable(columns.site, 64)!r}: {counted(len(intake.sites), 'site')} kept")
    say(f"splits from {intake.splits_from}")
    if intake.other_sites:
        say(f"{counted(intake.other_sites, 'row')} of other sites left out, as asked")
    if intake.fault_count:
        say(f"{counted(intake.fault_count, 'unusable row')} left out, as asked:")
        for fault in intake.faults:
            say(f"  {printable(fault.file, 80)}, line {fault.line}: {fault.reason}")
        if intake.fault_count > len(intake.faults):
            say(f"  and {counted(intake.fault_count - len(intake.faults), 'row')} more")


def _show_card(dataset: Dataset, say: Say) -> None:
    """The card as the coordinator and the other sites will see it."""
    card = dataset.card
    say(f'\nThe card of "{dataset.name}" (this is all that is published; no row leaves this machine):')
    say(f"  rows         {card.rows:,}")
    say("  splits       " + ", ".join(f"{name} {_count(count)}" for name, count in card.splits.items()))
    say("  text length  " + ", ".join(f"{name} {value:,}" for name, value in card.text_length.items()))
    say(f"  public       {'yes: PLAINTEXT baselines may train on it unprotected' if card.public else 'no'}")
    say(f"  labels       {len(card.labels)}")
    for label, count in card.labels.items():
        say(f"    {_count(count):>9}  {printable(label, 100)}")
    if None in [*card.labels.values(), *card.splits.values()]:
        say(f"  hidden: counts below {card.threshold}, and others that would give them away")


def _count(count: int | None) -> str:
    return "hidden" if count is None else f"{count:,}"


def _send_card(state: State, catalogue: Catalogue, dataset: Dataset, say: Say) -> int:
    try:
        with contextlib.closing(connect(state)) as coordinator:
            published = catalogue.publish(dataset, coordinator)
    except Refusal as refusal:
        if is_passing(refusal) or refusal.code == "agent.not_enrolled":
            say(
                f"\nKept, but not published yet. Later: python -m site_agent dataset publish {dataset.name!r}"
            )
        raise
    say(f"\nPublished as {published.id}.")
    return 0


def _list(chosen: argparse.Namespace, say: Say) -> int:
    datasets = Catalogue(State.open(chosen.state)).all()
    if not datasets:
        say("There is no dataset here. Add one: python -m site_agent dataset add FILE")
        return 0
    rows = [
        (
            dataset.name,
            f"{dataset.card.rows:,}",
            str(len(dataset.card.labels)),
            time.strftime("%Y-%m-%d", time.localtime(dataset.added)),
            dataset.id or "not published",
        )
        for dataset in datasets
    ]
    say(table(("name", "rows", "labels", "added", "published as"), rows))
    return 0


def _publish(chosen: argparse.Namespace, say: Say) -> int:
    state = State.open(chosen.state)
    catalogue = Catalogue(state)
    dataset = catalogue.named(chosen.name)
    catalogue.verify(dataset)
    return _send_card(state, catalogue, dataset, say)


def _remove(chosen: argparse.Namespace, say: Say) -> int:
    state = State.open(chosen.state)
    catalogue = Catalogue(state)
    dataset = catalogue.named(chosen.name)
    for manifest_hash in [] if chosen.force else approved_hashes(state):
        if approved_manifest(state, manifest_hash).site(state.config.site).dataset.id == dataset.id:
            raise Refusal("dataset.in_use", name=dataset.name, fingerprint=manifest_hash[:16])
    if dataset.id:
        with contextlib.closing(connect(state)) as coordinator:
            catalogue.remove(dataset, coordinator)
    else:
        catalogue.remove(dataset, None)
    say(f'Removed "{dataset.name}": its rows are deleted here, and its card is withdrawn.')
    return 0


def _synthetic(chosen: argparse.Namespace, say: Say) -> int:
    write_notes(chosen.out, hospital=chosen.hospital, rows=chosen.rows, seed=chosen.seed)
    say(f"Wrote {chosen.rows:,} SYNTHETIC triage notes to {chosen.out}. They describe no person.")
    return 0
