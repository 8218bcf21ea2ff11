"""What somebody has to say before a card is published: which columns, and what is to become of what stands
out.

A guess is shown and asked, and the answer is no unless a person says yes. Without a terminal nobody can be
asked: then the refusal names the option that answers.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Collection

from contracts.refusal import Refusal
from site_agent.datasets.findings import Findings
from site_agent.datasets.intake import Intake
from site_agent.formatting import printable
from translations.catalogues import marked, words

_ = words("site_agent")

Ask = Callable[[str], str]
_OPTION = {"separator": "label-separator"}
_QUESTIONS = {
    "missing-labels": marked("Some labels look like no label at all. Keep and publish them as classes?"),
    "look-alikes": marked("Some labels look alike. Keep them as different classes?"),
    "rare-labels": marked("The names of labels with few rows can point at a person. Publish these names?"),
    "unused-texts": marked("Some columns hold texts that no model will read. Leave them out?"),
}
_OPTIONS = {
    "missing-labels": marked("--drop-missing-labels or --keep missing-labels"),
    "look-alikes": marked("--rename-label FROM=TO or --keep look-alikes"),
    "rare-labels": marked("--drop-rare-labels or --keep rare-labels"),
    "unused-texts": marked(
        "--pair-column NAME or --prompt-column NAME to have one read, or --keep unused-texts"
    ),
}


def require_answers(intake: Intake, kept: Collection[str], ask: Ask | None = None) -> None:
    """`kept` are the kinds of finding that somebody has said to keep. `ask` puts a question to a person; by
    default the terminal does, where there is one.

    Raises: `dataset.unconfirmed_columns`, `dataset.unconfirmed_encoding` or `dataset.unanswered` while
    something is undecided.
    """
    if ask is None and sys.stdin.isatty():
        ask = input
    columns, findings = intake.columns, intake.findings
    assert columns is not None and findings is not None
    guessed = [role for role in columns.guessed if role not in ("split", "site")]
    if guessed and not _yes(ask, _("Are these columns right?")):
        roles_guessed = [(role, name) for role in guessed if role != "kind" for name in columns.all_of(role)]
        options = [
            f"--{_OPTION.get(role, role + '-column')} {shlex.quote(name)}" for role, name in roles_guessed
        ]
        kind = [_("--kind %(kind)s") % {"kind": columns.kind}] if "kind" in guessed else []
        raise Refusal(
            "dataset.unconfirmed_columns",
            guessed=", ".join(f"{role} {printable(name, 64)!r}" for role, name in roles_guessed),
            options=" ".join(kind + options),
        )
    guesses = sorted({found.encoding for _name, found in intake.formats if found.encoding_guessed})
    if guesses and not _yes(
        ask, _("That the file is %(value)s was guessed. Are its letters right?") % {"value": guesses[0]}
    ):
        raise Refusal("dataset.unconfirmed_encoding", encoding=guesses[0])
    _require_decisions(findings, kept, ask)


def _require_decisions(findings: Findings, kept: Collection[str], ask: Ask | None) -> None:
    left = [kind for kind in findings.questions() if kind not in kept and not _yes(ask, _(_QUESTIONS[kind]))]
    if left:
        options = "; ".join(f"{kind}: {_(_OPTIONS[kind])}" for kind in left)
        raise Refusal("dataset.unanswered", kinds=", ".join(left), options=options)


def agreed(ask: Ask | None = None) -> bool:
    """Whether a person at the terminal says that the card may be published; the default is no.

    Raises: `dataset.publish_unsaid` where nobody can be asked.
    """
    if ask is None and not sys.stdin.isatty():
        raise Refusal("dataset.publish_unsaid")
    return _yes(ask or input, _("Publish this card?"))


def _yes(ask: Ask | None, question: str) -> bool:
    return ask is not None and ask(f"\n{question} [y/N] ").strip().lower() in ("y", "yes")
