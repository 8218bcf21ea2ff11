"""`python -m site_agent dataset …`: add, list, publish, remove, and make a synthetic one."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from contracts.kinds import Kind
from contracts.labels import meant
from contracts.language_tags import LANGUAGE
from contracts.refusal import Refusal
from contracts.rows import MOST_CHOICES
from site_agent import dataset_report as report
from site_agent.approvals import approved_hashes, approved_manifest
from site_agent.dataset_questions import agreed, require_answers
from site_agent.datasets.catalogue import Catalogue, Dataset
from site_agent.datasets.columns import Columns
from site_agent.datasets.findings import QUESTIONS
from site_agent.datasets.intake import Wishes
from site_agent.datasets.spool import name_of, spooled
from site_agent.enrolment import connect
from site_agent.formatting import printable, table
from site_agent.pulse import Pulse
from site_agent.state import State
from site_agent.synthetic import HOSPITALS, write_notes
from site_agent.transport import is_passing
from translations.catalogues import marked, words
from translations.numbers import number

_ = words("site_agent")

Say = Callable[..., None]
_DROPPED = {
    "missing-labels": marked("rows whose label looks like no label (NA, null, -, …)"),
    "missing-texts": marked("rows whose text looks like no text"),
    "duplicates": marked("rows that stand there twice"),
    "leaks": marked("validation and test rows whose text stands in an earlier split, too"),
    "rare-labels": marked("rows of labels with few rows"),
}


def add_dataset_commands(commands: Any, say: Say) -> None:
    """Add `dataset` and its own commands to the parser."""
    datasets = commands.add_parser("dataset", help=_("offer datasets; their rows stay here"))
    verbs = datasets.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("add", help=_("check a file, keep it, and publish its card (no rows)"))
    verb.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help=_("CSV, TSV, JSON lines, Parquet, XLSX; gzip is fine"),
    )
    verb.add_argument("--name", help=_("the dataset's name (else the file's)"))
    verb.add_argument("--kind", choices=get_args(Kind), help=_("what a row is (else seen from the columns)"))
    verb.add_argument("--text-column", metavar="NAME")
    verb.add_argument("--pair-column", metavar="NAME", help=_("a second text that is read with the first"))
    verb.add_argument("--label-column", metavar="NAME")
    verb.add_argument(
        "--labels-column",
        metavar="NAME",
        action="append",
        default=[],
        help=_(
            "any number of labels: a column that lists them, or (said again) a column of 0 and 1 for each"
        ),
    )
    verb.add_argument("--tokens-column", metavar="NAME", help=_("words: a column of lists"))
    verb.add_argument(
        "--tags-column", metavar="NAME", help=_("their tags (IOB2): lists of O, B-TYPE, I-TYPE")
    )
    verb.add_argument("--label-separator", metavar="SIGN", help=_("what parts labels in one cell, as ; or |"))
    verb.add_argument(
        "--prompt-column",
        metavar="NAME",
        action="append",
        default=[],
        help=_(
            "what a language model is asked; several are put together in the order in which they are said"
        ),
    )
    verb.add_argument(
        "--choices-column",
        metavar="NAME",
        action="append",
        default=[],
        help=_("the choices of a question: a column of lists, or as many columns as there are choices"),
    )
    verb.add_argument(
        "--choice",
        metavar="TEXT",
        action="append",
        default=[],
        help=_("a choice that every question has, said for each of them (--choice yes --choice no)"),
    )
    verb.add_argument("--response-column", metavar="NAME", help=_("what a language model is to answer"))
    verb.add_argument("--messages-column", metavar="NAME", help=_("conversations: lists of {role, content}"))
    verb.add_argument(
        "--language",
        metavar="TAG",
        action="append",
        default=[],
        help=_("the texts' language, for the card (de, en-GB)"),
    )
    verb.add_argument("--split-column", metavar="NAME")
    verb.add_argument("--site-column", metavar="NAME")
    verb.add_argument(
        "--only-site", action="append", default=[], metavar="VALUE", help=_("keep these sites' rows only")
    )
    verb.add_argument("--encoding", help=_("say it if the file is not UTF-8 and the guess is wrong"))
    verb.add_argument(
        "--skip-lines", type=int, default=0, metavar="N", help=_("lines above the column names")
    )
    verb.add_argument("--skip-bad", action="store_true", help=_("leave unusable rows out (they are listed)"))
    for kind, what in _DROPPED.items():
        verb.add_argument(
            f"--drop-{kind}", action="store_true", help=_("leave out %(what)s") % {"what": what}
        )
    verb.add_argument(
        "--rename-label", action="append", default=[], metavar="FROM=TO", help=_("for labels that look alike")
    )
    verb.add_argument(
        "--keep",
        action="append",
        default=[],
        choices=QUESTIONS,
        help=_("this was seen, and is to stay as it is (and is published)"),
    )
    verb.add_argument(
        "--public",
        action="store_true",
        help=_("anybody may read these rows: plaintext baselines may use them"),
    )
    verb.add_argument(
        "--new-lineage",
        metavar="REASON",
        help=_("these are other people than in the dataset that it seems to continue; the reason is kept"),
    )
    verb.add_argument("--no-publish", action="store_true", help=_("keep it, publish later"))
    verb.add_argument("--yes", action="store_true", help=_("publish the card without asking"))
    verb.add_argument("--json", action="store_true", help=_("say what was seen as JSON"))
    verb.set_defaults(run=lambda chosen: _add(chosen, say))

    verb = verbs.add_parser("list", help=_("the datasets that lie here"))
    verb.set_defaults(run=lambda chosen: _list(chosen, say))

    verb = verbs.add_parser("publish", help=_("publish the card of a dataset that was only kept"))
    verb.add_argument("name")
    verb.set_defaults(run=lambda chosen: _publish(chosen, say))

    verb = verbs.add_parser("remove", help=_("withdraw the card and delete the rows here"))
    verb.add_argument("name")
    verb.add_argument("--force", action="store_true", help=_("also where an approved run names it"))
    verb.set_defaults(run=lambda chosen: _remove(chosen, say))

    verb = verbs.add_parser("synthetic", help=_("write made-up triage notes, for trials"))
    verb.add_argument("out", type=Path, metavar="OUT.jsonl")
    verb.add_argument("--hospital", type=int, choices=range(1, HOSPITALS + 1), required=True)
    verb.add_argument("--rows", type=int, default=1000)
    verb.add_argument("--seed", type=int, default=1)
    verb.set_defaults(run=lambda chosen: _synthetic(chosen, say))


def _add(chosen: argparse.Namespace, say: Say) -> int:
    state = State.open(chosen.state)
    catalogue = Catalogue(state)
    name = chosen.name or name_of(chosen.files[0])
    with spooled(chosen.files, state.datasets, _waiting) as files, Pulse(_("Reading and checking")) as pulse:
        dataset, intake = catalogue.draft(files, name, _wishes(chosen), chosen.public, pulse.rows)
    with catalogue.drafted(dataset):
        if not chosen.json:
            report.show(dataset, intake, say)
        with Pulse(_("Comparing with the datasets of before")):
            kin = catalogue.relatives(dataset, chosen.files)
        if not chosen.json:
            report.show_relatives(kin, chosen.new_lineage, say)
        try:
            require_answers(intake, chosen.keep)
        except Refusal as refusal:
            if chosen.json:
                say(report.in_json(dataset, intake, kin, refused=refusal.code))
            raise
        publish = not chosen.no_publish and (chosen.yes or agreed())
        with Pulse(_("Keeping")):
            catalogue.keep(dataset, chosen.files, chosen.new_lineage)
    if publish:
        dataset = _send_card(state, catalogue, dataset, _silent if chosen.json else say)
    elif not chosen.json:
        say(
            _("\nKept, not published. Later: python -m site_agent dataset publish %(name)s")
            % {"name": repr(dataset.name)}
        )
    if chosen.json:
        say(report.in_json(dataset, intake, kin))
    return 0


def _wishes(chosen: argparse.Namespace) -> Wishes:
    dropped = ("drop_" + kind.replace("-", "_") for kind in _DROPPED)
    return Wishes(
        columns=Columns(
            kind=chosen.kind,
            text=chosen.text_column,
            pair=chosen.pair_column,
            label=chosen.label_column,
            labels=tuple(chosen.labels_column),
            separator=chosen.label_separator,
            tokens=chosen.tokens_column,
            tags=chosen.tags_column,
            prompt=tuple(chosen.prompt_column),
            choices=tuple(chosen.choices_column),
            fixed=_fixed(chosen.choice),
            response=chosen.response_column,
            messages=chosen.messages_column,
            split=chosen.split_column,
            site=chosen.site_column,
        ),
        languages=_languages(chosen.language),
        only_sites=tuple(chosen.only_site),
        encoding=chosen.encoding,
        skip_lines=max(chosen.skip_lines, 0),
        skip_bad=chosen.skip_bad,
        label_map=_renamed(chosen.rename_label),
        **{name: getattr(chosen, name) for name in dropped},
    )


def _fixed(said: list[str]) -> tuple[str, ...]:
    """Choices that all questions have.

    Raises: `dataset.bad_choices`.
    """
    choices = tuple(choice.strip() for choice in said)
    if choices and not (2 <= len(choices) == len(set(choices)) <= MOST_CHOICES and all(choices)):
        raise Refusal("dataset.bad_choices", limit=MOST_CHOICES)
    return choices


def _languages(said: list[str]) -> tuple[str, ...]:
    """BCP 47 tags.

    Raises: `dataset.bad_language`.
    """
    for tag in said:
        if not re.fullmatch(LANGUAGE, tag):
            raise Refusal("dataset.bad_language", said=printable(tag, 40))
    return tuple(dict.fromkeys(said))


def _renamed(said: list[str]) -> dict[str, str]:
    """`FROM=TO`, as often as it is said, spelled as it is shown.

    Raises: `dataset.bad_rename`.
    """
    pairs = [tuple(part.strip() for part in pair.split("=", 1)) for pair in said]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise Refusal("dataset.bad_rename")
    return {meant(pair[0]): meant(pair[1]) for pair in pairs}


def _waiting(pipe: Path) -> None:
    sys.stderr.write(
        _("Waiting for something to write to the pipe %(pipe)s … (Ctrl-C ends this)\n") % {"pipe": pipe}
    )
    sys.stderr.flush()


def _silent(*_lines: str) -> None:
    """Says nothing, where the answer is JSON."""


def _send_card(state: State, catalogue: Catalogue, dataset: Dataset, say: Say) -> Dataset:
    try:
        with contextlib.closing(connect(state)) as coordinator:
            published = catalogue.publish(dataset, coordinator)
    except Refusal as refusal:
        if is_passing(refusal) or refusal.code == "agent.not_enrolled":
            say(
                _("\nKept, but not published yet. Later: python -m site_agent dataset publish %(name)s")
                % {"name": repr(dataset.name)}
            )
        raise
    say(_("\nPublished as %(id)s.") % {"id": published.id})
    return published


def _list(chosen: argparse.Namespace, say: Say) -> int:
    datasets = Catalogue(State.open(chosen.state)).all()
    if not datasets:
        say(_("There is no dataset here. Add one: python -m site_agent dataset add FILE"))
        return 0
    rows = [
        (
            dataset.name,
            f"{dataset.card.rows:,}",
            dataset.card.kind,
            str(len(dataset.card.labels) or "-"),
            time.strftime("%Y-%m-%d", time.localtime(dataset.added)),
            dataset.id or _("not published"),
        )
        for dataset in datasets
    ]
    say(table(("name", "rows", "kind", "labels", "added", _("published as")), rows))
    return 0


def _publish(chosen: argparse.Namespace, say: Say) -> int:
    state = State.open(chosen.state)
    catalogue = Catalogue(state)
    dataset = catalogue.named(chosen.name)
    catalogue.verify(dataset)
    _send_card(state, catalogue, dataset, say)
    return 0


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
    say(
        _('Removed "%(name)s": its rows are deleted here, and its card is withdrawn.')
        % {"name": dataset.name}
    )
    return 0


def _synthetic(chosen: argparse.Namespace, say: Say) -> int:
    write_notes(chosen.out, hospital=chosen.hospital, rows=chosen.rows, seed=chosen.seed)
    say(
        _("Wrote %(rows)s SYNTHETIC triage notes to %(out)s. They describe no person.")
        % {"rows": number(f"{chosen.rows:,}"), "out": chosen.out}
    )
    return 0
