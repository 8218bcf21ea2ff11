"""What this hospital and a study's lead say to each other, at the terminal. It binds nobody: what counts is
what is signed by `approve`."""

from __future__ import annotations

import hashlib

from contracts.agents_api.studies import SAY, THREADS, About, Decision, MessageBody, MessageItem, ThreadItem
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from site_agent.formatting import printable
from site_agent.transport import Coordinator
from translations.catalogues import marked, words

_ = words("site_agent")

LIMIT = 4000
SPEAKERS = {"site": marked("hospital"), "lead": marked("lead")}
"""What a speaker is called where people read."""
DONE = {
    "message": marked("says"),
    "changes": marked("asks for changes"),
    "decline": marked("declines"),
    "reconsider": marked("may take part after all"),
}


def threads(coordinator: Coordinator) -> list[ThreadItem]:
    """All of them.

    Raises: `agent.bad_answer`.
    """
    return coordinator.ask(THREADS, Nothing())


def choose(found: list[ThreadItem], asked: str | None) -> ThreadItem:
    """The one whose fingerprint begins so, or whose study is called so; without a name the only one.

    Raises: `thread.unknown`.
    """
    wanted = (asked or "").lower()
    chosen = [
        one
        for one in found
        if not wanted
        or wanted in (one.study.lower(), one.name.lower())
        or (len(wanted) >= 8 and one.manifest_hash.startswith(wanted))
    ]
    if len(chosen) != 1:
        raise Refusal("thread.unknown", fingerprint=printable(asked or "any", 80))
    return chosen[0]


def say_in(
    coordinator: Coordinator, thread: ThreadItem, kind: Decision, text: str, about: About
) -> ThreadItem:
    """Send a message; a decision is about the manifest that the thread was read with."""
    shown = None if kind == "message" else thread.manifest_hash or "0" * 64
    return coordinator.ask(SAY, MessageBody(thread.study, kind, about, text, shown))


def describe(thread: ThreadItem) -> str:
    """The thread as lines for people.

    Raises: `thread.altered`.
    """
    decided = (
        _(", fingerprint %(value)s…") % {"value": thread.manifest_hash[:16]} if thread.manifest_hash else ""
    )
    lines = [f'"{printable(thread.name, 200)}" ({printable(thread.state, 20)}{decided})']
    if thread.declined:
        lines.append(_("  This hospital has declined. It can still sign (approve), or say --reconsider."))
    for one in thread.messages:
        who = f"{_(SPEAKERS.get(one.speaker, one.speaker))} {one.by}".strip()
        done = _(DONE.get(one.kind, one.kind))
        at = printable(one.at[:16].replace("T", " "), 20)
        lines += [
            "",
            _("  %(at)s UTC, %(who)s %(done)s (%(about)s):")
            % {
                "at": at,
                "who": printable(who, 120),
                "done": printable(done, 40),
                "about": printable(one.about, 20),
            },
        ]
        lines += [f"    {printable(line, LIMIT)}" for line in _text(one).split("\n")]
    return "\n".join(lines if thread.messages else [*lines, _("  Nothing was said yet.")])


def _text(said: MessageItem) -> str:
    if not said.salt:
        return "(erased)"
    try:
        salt = bytes.fromhex(said.salt)
    except ValueError:
        salt = b""
    if hashlib.sha256(salt + said.text.encode(errors="replace")).hexdigest() != said.digest:
        raise Refusal("thread.altered", number=said.number)
    return said.text
