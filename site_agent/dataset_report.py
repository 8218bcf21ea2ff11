"""What `dataset add` has seen, for a person or as JSON: columns, rows, what stands out, and the card.

Texts are never shown. Labels are, here at the hospital; on the card only those that may be published.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from contracts.kinds import LABELLED, SEVERAL, TAGGED, Kind
from contracts.labels import spelled
from site_agent.datasets.catalogue import Dataset
from site_agent.datasets.findings import LONG_TEXT, Findings
from site_agent.datasets.intake import Intake
from site_agent.formatting import counted, printable, table
from site_agent.ledger.lineage import Relative
from translations.catalogues import marked, words
from translations.numbers import number

_ = words("site_agent")

Say = Callable[..., None]
SHOWN = 12
SHOWN_ROLES = (
    "text",
    "pair",
    "label",
    "labels",
    "tokens",
    "tags",
    "prompt",
    "choices",
    "response",
    "messages",
    "split",
    "site",
)
WORDS: dict[Kind, str] = {
    "text-label": marked("a text with its class"),
    "pair-label": marked("two texts that are read together, with their class"),
    "text-labels": marked("a text with any number of labels"),
    "token-tags": marked("words, each with its tag"),
    "prompt-response": marked("a prompt and the response to it"),
    "prompt-choices": marked("a question with choices, and the right one"),
    "messages": marked("a conversation"),
    "text": marked("a text"),
}
_TO_READ: dict[Kind, str] = {"text-label": "--pair-column NAME", "prompt-response": "--prompt-column NAME",
                            "prompt-choices": "--prompt-column NAME"}  # fmt: skip
"""How a column of texts is read too, where a kind has a place for it."""


def show(dataset: Dataset, intake: Intake, say: Say) -> None:
    """Everything, before anything is asked."""
    _show_files(intake, say)
    _show_columns(intake, say)
    _show_left_out(intake, say)
    say("")
    say(_("What we saw:"))
    say(table((_("what"), _("how much"), _("what can be done")), _lines(intake)))
    _show_card(dataset, say)


def show_relatives(kin: Sequence[Relative], new: str | None, say: Say) -> None:
    """Which datasets of before it continues: what was spent on them counts for it, too."""
    for one in kin:
        say(
            _('It continues "%(name)s": %(because)s.')
            % {"name": printable(one.rows.name, 100), "because": one.because}
        )
    if kin and new is None:
        say(_("What that has told over all runs counts for this one, too: python -m site_agent budget"))
        say(_('If these are other people, stop here and add it with --new-lineage "REASON".'))


def in_json(dataset: Dataset, intake: Intake, kin: Sequence[Relative], refused: str | None = None) -> str:
    """The same as JSON; `refused` is the code of what is still to be decided."""
    return json.dumps(_as_value(dataset, intake, kin) | {"refused": refused}, ensure_ascii=False, indent=2)


def _as_value(dataset: Dataset, intake: Intake, kin: Sequence[Relative]) -> dict[str, Any]:
    assert intake.findings is not None and intake.columns is not None
    return {
        "name": dataset.name,
        "files": [{"file": name, "format": str(found)} for name, found in intake.formats],
        "columns": msgspec.to_builtins(intake.columns),
        "unused_columns": list(intake.unused),
        "splits_from": intake.splits_from,
        "dropped": dict(intake.dropped),
        "unusable_rows": intake.fault_count,
        "codes": intake.codes,
        "findings": msgspec.to_builtins(intake.findings),
        "questions": list(intake.findings.questions()),
        "card": msgspec.to_builtins(dataset.card),
        "continues": [{"name": one.rows.name, "because": one.because} for one in kin],
        "published_as": dataset.id or None,
    }


def _show_files(intake: Intake, say: Say) -> None:
    for name, found in intake.formats:
        say(f"{printable(name, 80)}: {found}")


def _show_columns(intake: Intake, say: Say) -> None:
    columns = intake.columns
    assert columns is not None
    assert columns.kind is not None
    say(_("  each row is %(value)s (%(kind)s)") % {"value": _(WORDS[columns.kind]), "kind": columns.kind})
    for role in SHOWN_ROLES:
        guessed = _("  (guessed)") if role in columns.guessed else ""
        if read := [repr(printable(name, 64)) for name in columns.all_of(role)]:
            where = _("from columns %(names)s") if len(read) > 1 else _("from column %(names)s")
            say(f"  {role:<8} {where % {'names': ', '.join(read)}}{guessed}")
    if columns.separator:
        guessed = _("  (guessed)") if "separator" in columns.guessed else ""
        say(
            _("  labels are parted by %(separator)s%(guessed)s; an empty cell is a row without any")
            % {"separator": repr(columns.separator), "guessed": guessed}
        )
    if columns.site:
        say(_("         %(sites)s kept") % {"sites": counted(len(intake.sites), "site")})
    if intake.unused:
        names = ", ".join(printable(name, 64) for name in intake.unused[:SHOWN])
        more = (
            _(" and %(value)s more") % {"value": len(intake.unused) - SHOWN}
            if len(intake.unused) > SHOWN
            else ""
        )
        say(_("  not used, neither kept nor published: %(names)s%(more)s") % {"names": names, "more": more})
    say(_("  splits: %(splits_from)s") % {"splits_from": intake.splits_from})


def _show_left_out(intake: Intake, say: Say) -> None:
    if intake.other_sites:
        say(
            _("%(other_sites)s of other sites left out, as asked")
            % {"other_sites": counted(intake.other_sites, "row")}
        )
    for kind, count in sorted(intake.dropped.items()):
        say(_("%(count)s left out, as asked: %(kind)s") % {"count": counted(count, "row"), "kind": kind})
    if intake.fault_count:
        say(
            _("%(fault_count)s left out, as asked:")
            % {"fault_count": counted(intake.fault_count, "unusable row")}
        )
        for fault in intake.faults:
            say(
                _("  %(file)s, line %(line)s: %(reason)s")
                % {"file": printable(fault.file, 80), "line": fault.line, "reason": fault.reason}
            )
        if intake.fault_count > len(intake.faults):
            say(
                _("  and %(value)s more") % {"value": counted(intake.fault_count - len(intake.faults), "row")}
            )


def _lines(intake: Intake) -> list[tuple[str, str, str]]:
    """(what, how much, what can be done), also where there is nothing: so that it was looked for is seen."""
    found, columns = intake.findings, intake.columns
    assert found is not None and columns is not None and columns.kind is not None
    kind = columns.kind
    labels = [
        (_("labels that look like no label"), _labels(found.missing_labels), "--drop-missing-labels"),
        (_("labels written as 1.0, read as 1"), _codes(intake.codes), _("--rename-label 1=TO")),
        (_("labels that look alike"), _groups(found), _("--rename-label FROM=TO")),
        (_("labels with few rows"), _labels(found.rare_labels), "--drop-rare-labels"),
        (_("texts with two different labels"), str(found.contradictions or "none"), _("look at the source")),
    ]
    without = [
        (
            _("rows without any label, or entity"),
            _rows(intake.rows.labels.count("")),
            _("they stay: none applies"),
        )
    ]
    lines = [
        *(labels if kind in (*LABELLED, TAGGED) else ()),
        *(without if kind in (SEVERAL, TAGGED) else ()),
        (_("texts that look like no text"), _rows(found.missing_texts), "--drop-missing-texts"),
        (_("rows that stand there twice"), _rows(found.duplicates), "--drop-duplicates"),
        (_("rows to judge by that stand in an earlier split, too"), _rows(found.leaks), "--drop-leaks"),
        (_("columns of texts that are not read"), _columns(found.unused_texts), _TO_READ.get(kind, "")),
        (
            _("texts over %(value)s characters") % {"value": number(f"{LONG_TEXT:,}")},
            _rows(found.long_texts),
            _("a model may read the start only"),
        ),
    ]
    return [(what, much, "" if much == "none" else option) for what, much, option in lines]


def _rows(count: int) -> str:
    return counted(count, "row") if count else _("none")


def _columns(names: Sequence[str]) -> str:
    return ", ".join(printable(name, 40) for name in names[:SHOWN]) or "none"


def _codes(codes: dict[str, str]) -> str:
    shown = [f"{said} as {read}" for said, read in sorted(codes.items())[:SHOWN]]
    return ", ".join(shown) + (" …" if len(codes) > SHOWN else "") or "none"


def _labels(counts: dict[str, int]) -> str:
    if not counts:
        return "none"
    shown = [f"{printable(label, 40)} ({count:,})" for label, count in list(counts.items())[:SHOWN]]
    return ", ".join(shown) + (" …" if len(counts) > SHOWN else "")


def _groups(found: Findings) -> str:
    shown = [" / ".join(f"'{spelled(label[:40])}'" for label in group) for group in found.look_alikes[:SHOWN]]
    return "; ".join(shown) or "none"


def _show_card(dataset: Dataset, say: Say) -> None:
    """The card as the coordinator and the other sites will see it."""
    card = dataset.card
    say(
        _('\nThe card of "%(name)s" (this is all that is published; no row leaves this machine):')
        % {"name": dataset.name}
    )
    say(_("  rows         %(rows)s") % {"rows": number(f"{card.rows:,}")})
    say(_("  kind         %(kind)s") % {"kind": card.kind})
    say("  splits       " + ", ".join(f"{name} {_count(count)}" for name, count in card.splits.items()))
    for what, quantiles in (
        (_("text length"), card.text_length),
        ("answers", card.answer_length),
        ("turns", card.turns),
    ):
        if quantiles:
            say(f"  {what:<12} " + ", ".join(f"{name} {value:,}" for name, value in quantiles.items()))
    say(
        _("  languages    %(value)s") % {"value": ", ".join(card.languages) or _("not said (--language TAG)")}
    )
    say(
        _("  public       %(value)s")
        % {"value": _("yes: PLAINTEXT baselines may train on it unprotected") if card.public else "no"}
    )
    if card.kind in (*LABELLED, TAGGED):
        say(_("  labels       %(labels)s") % {"labels": len(card.labels)})
    for label, count in card.labels.items():
        say(f"    {_count(count):>9}  {printable(label, 100)}")
    if None in [*card.labels.values(), *card.splits.values()]:
        say(
            _("  hidden: counts below %(threshold)s, and others that would give them away")
            % {"threshold": card.threshold}
        )


def _count(count: int | None) -> str:
    return "hidden" if count is None else f"{count:,}"
