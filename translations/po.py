"""Catalogues as people edit them (gettext's .po), and as gettext reads them (.mo)."""

from __future__ import annotations

import ast
import struct
from collections.abc import Iterable
from typing import NamedTuple

HEADER = (
    "Project-Id-Version: FedSlice\n"
    "Language: de\n"
    "MIME-Version: 1.0\n"
    "Content-Type: text/plain; charset=UTF-8\n"
    "Content-Transfer-Encoding: 8bit\n"
    "Plural-Forms: nplurals=2; plural=(n != 1);\n"
)
"""Of German, as Django's own catalogue has it."""


class CatalogueMessage(NamedTuple):
    """A text of the code and what it is in the other language. `plural` makes both a pair. `context` tells
    two apart that are spelled alike in English."""

    text: str
    plural: str = ""
    context: str = ""
    said: tuple[str, ...] = ("",)
    fuzzy: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.context, self.text


def read(source: str) -> list[CatalogueMessage]:
    """The messages of a .po, without its header. Raises ValueError on a line that is none."""
    messages, fields, flags, last = list[CatalogueMessage](), dict[str, str](), "", ""
    for line in [*source.splitlines(), ""]:
        line = line.strip()
        if line.startswith("#,"):
            flags = line
        elif line.startswith("#"):
            continue
        elif not line:
            if fields.get("msgid"):
                messages.append(_message(fields, "fuzzy" in flags))
            fields, flags, last = {}, "", ""
        elif line.startswith('"'):
            fields[last] += _literal(line)
        else:
            last, _space, value = line.partition(" ")
            if not last.startswith("msg") or last in fields:
                raise ValueError(f"no line of a catalogue: {line[:80]}")
            fields[last] = _literal(value.strip())
    return messages


def _literal(text: str) -> str:
    value = ast.literal_eval(text)
    if not isinstance(value, str):
        raise ValueError(f"no text: {text[:80]}")
    return value


def _message(fields: dict[str, str], fuzzy: bool) -> CatalogueMessage:
    plural = fields.get("msgid_plural", "")
    said = (fields.get("msgstr[0]", ""), fields.get("msgstr[1]", "")) if plural else (fields["msgstr"],)
    return CatalogueMessage(fields["msgid"], plural, fields.get("msgctxt", ""), said, fuzzy)


def write(messages: Iterable[CatalogueMessage]) -> str:
    """A .po, sorted by the English texts, without line numbers: so two people's changes meet seldom."""
    parts = ['msgid ""\nmsgstr ""\n' + "".join(f"{_quoted(line)}\n" for line in HEADER.splitlines(True))]
    for message in sorted(
        messages, key=lambda message: (message.text.casefold(), message.text, message.context)
    ):
        lines = ["#, fuzzy"] if message.fuzzy else []
        lines += [f"msgctxt {_quoted(message.context)}"] if message.context else []
        lines.append(f"msgid {_quoted(message.text)}")
        if message.plural:
            lines.append(f"msgid_plural {_quoted(message.plural)}")
            lines += [f"msgstr[{n}] {_quoted(said)}" for n, said in enumerate(message.said)]
        else:
            lines.append(f"msgstr {_quoted(message.said[0])}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def compiled(messages: Iterable[CatalogueMessage]) -> bytes:
    """The .mo (GNU gettext manual, "The Format of GNU MO Files"): what is translated, and not fuzzy."""
    table = {"": HEADER}
    for message in messages:
        if all(message.said) and not message.fuzzy:
            context = f"{message.context}\x04" if message.context else ""
            name = f"{message.text}\x00{message.plural}" if message.plural else message.text
            table[context + name] = "\x00".join(message.said)
    names = sorted(table, key=str.encode)
    start, offsets, texts = 28 + 16 * len(names), list[tuple[int, int]](), b""
    for column in (names, [table[name] for name in names]):
        for text in column:
            raw = text.encode()
            offsets.append((len(raw), start + len(texts)))
            texts += raw + b"\x00"
    head = struct.pack("<7I", 0x950412DE, 0, len(names), 28, 28 + 8 * len(names), 0, 0)
    return head + b"".join(struct.pack("<2I", *pair) for pair in offsets) + texts
