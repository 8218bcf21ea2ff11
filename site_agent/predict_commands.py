"""The command `predict`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contracts.manifest import Manifest
from contracts.refusal import Refusal
from site_agent.enrolment import connect
from site_agent.formatting import counted, printable, table
from site_agent.predict import AnswerWish, AskedText, Labels, Predictor, answer_file
from site_agent.serving import ServedModel, choose, offers
from site_agent.state import State
from site_agent.transport import Coordinator
from translations.catalogues import words

_ = words("site_agent")

Say = Callable[[str], None]


def add_predict_command(commands: Any, say: Say) -> None:
    """Add it to the agent's commands. `say` takes lines for people, on standard output."""
    command = commands.add_parser("predict", help=_("ask the served model of a run, under seal"))
    command.add_argument(
        "--run", dest="asked", metavar="RUN", help=_("its id or the beginning of its fingerprint")
    )
    command.add_argument("--study", dest="asked", metavar="NAME", help=_("the name of its study"))
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help=_("name the runs that can be asked"))
    what.add_argument("--text", help=_("one text"))
    what.add_argument(
        "--in", dest="source", type=Path, metavar="FILE", help=_(".txt, CSV, JSON Lines, Parquet")
    )
    command.add_argument("--out", dest="target", type=Path, metavar="FILE", help=_("answers as JSON Lines"))
    command.add_argument("--column", help=_("the column that holds the text (else found by its name)"))
    command.add_argument(
        "--pair", metavar="TEXT", help=_("with --text: the second text, in a study of pairs")
    )
    command.add_argument("--pair-column", metavar="NAME", help=_("the column that holds the second text"))
    command.add_argument("--json", action="store_true", help=_("with --text: the answer as one JSON object"))
    command.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help=_("of a causal model"))
    command.add_argument("--temperature", type=float, default=0.0, help=_("0: always the likeliest token"))
    command.add_argument(
        "--top-p", type=float, default=1.0, metavar="P",
        help=_("draw from the likeliest tokens that have this share of the probability"),
    )  # fmt: skip
    command.add_argument(
        "--stop", dest="stops", action="append", default=[], metavar="TEXT",
        help=_("end the answer before this text; may be given several times"),
    )  # fmt: skip
    command.add_argument("--seed", type=int, default=0, help=_("of the draw, at a temperature over 0"))
    command.set_defaults(run=lambda chosen: run_predict(command, chosen, say))


def run_predict(parser: argparse.ArgumentParser, chosen: argparse.Namespace, say: Say) -> int:
    """`predict`. Progress goes to standard error, so that standard output holds answers alone."""
    if (chosen.source is None) != (chosen.target is None):
        parser.error(_("--in and --out belong together"))
    within = 0 <= chosen.temperature < 1000 and 0 < chosen.top_p <= 1
    if not within or chosen.seed < 0 or chosen.max_new_tokens < 1:
        parser.error(_("--temperature, --top-p, --seed or --max-new-tokens is out of range"))
    state = State.open(chosen.state)
    with contextlib.closing(connect(state, tell=_progress)) as coordinator:
        if chosen.list:
            return _list(coordinator, say)
        if chosen.source is not None and not chosen.source.is_file():
            raise Refusal("predict.nothing", fault=f"there is no file {printable(chosen.source, 200)}")
        if chosen.text is not None and not chosen.text.strip():
            raise Refusal("predict.nothing", fault="the text is empty")
        offer, manifest = choose(state, coordinator, chosen.asked)
        _progress(
            _('Asking the model of "%(study)s", run %(run)s.')
            % {"study": printable(offer.study, 100), "run": offer.run}
        )
        served = ServedModel(state, coordinator, manifest, _progress)
        with contextlib.closing(served):
            predictor = Predictor(manifest, served)
            if chosen.text is not None:
                _one(predictor, chosen, say)
            else:
                _file(predictor, manifest, chosen)
    return 0


def _list(coordinator: Coordinator, say: Say) -> int:
    found = offers(coordinator)
    rows = [(offer.run, offer.manifest_hash[:16], offer.state, printable(offer.study)) for offer in found]
    say(
        table(("run", "fingerprint", "state", "study"), rows)
        if rows
        else _("No model is served to this site.")
    )
    return 0


def _one(predictor: Predictor, chosen: argparse.Namespace, say: Say) -> None:
    if predictor.causal:
        pieces = []
        for piece in predictor.write(chosen.text, _asked(chosen)):
            pieces.append(piece)
            if not chosen.json:
                sys.stdout.write(_shown(piece))
                sys.stdout.flush()
        say(json.dumps({"text": "".join(pieces)}, ensure_ascii=False) if chosen.json else "")
        return
    (found,) = predictor.classify([AskedText(1, chosen.text, chosen.pair)])
    if chosen.json:
        say(json.dumps(vars(found), ensure_ascii=False))
        return
    others = sorted(found.probabilities.items(), key=lambda item: -item[1])
    if isinstance(found, Labels):
        say(", ".join(map(printable, found.labels)) or _("none of the labels"))
    else:
        say(f"{printable(found.label)}  {found.probability:.3f}")
        others = others[1:6]
    for label, chance in others:
        say(f"  {printable(label)}  {chance:.3f}")
    _tell_cuts(predictor)


def _asked(chosen: argparse.Namespace) -> AnswerWish:
    return AnswerWish(
        chosen.max_new_tokens, chosen.temperature, chosen.seed, chosen.top_p, tuple(chosen.stops)
    )


def _file(predictor: Predictor, manifest: Manifest, chosen: argparse.Namespace) -> None:
    def write(prompt: str) -> dict[str, Any]:
        return {"text": "".join(predictor.write(prompt, _asked(chosen)))}

    count = answer_file(
        predictor,
        manifest,
        chosen.source,
        chosen.target,
        column=chosen.column,
        pair=chosen.pair_column,
        write=write,
        tell=_progress,
    )
    _progress(f"{counted(count, 'answer')} in {printable(chosen.target, 200)}.")
    _tell_cuts(predictor)


def _tell_cuts(predictor: Predictor) -> None:
    if predictor.cut_short:
        _progress(
            _("%(cut_short)s longer than the model reads, cut as in training.")
            % {"cut_short": counted(predictor.cut_short, "text")}
        )


def _shown(piece: str) -> str:
    """What a model wrote, without what a terminal would obey; line breaks and tabs stay."""
    return "".join(mark if mark in "\n\t" else printable(mark) for mark in piece)


def _progress(text: str) -> None:
    sys.stderr.write(printable(text, 2000) + "\n")
    sys.stderr.flush()
