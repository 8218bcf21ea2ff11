"""Text that people wrote, made plain: nothing in it repaints a terminal, turns a line around, or hides."""

from __future__ import annotations

import re
import unicodedata

from contracts.refusal import Refusal

LIMIT = 4000
"""Characters of a message, once it is plain."""
# ECMA-48: control sequences, control strings (titles, links), other escapes; with ESC or in their 8-bit form.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]P^_X]|[\x9d\x90\x9e\x9f\x98])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# Control, format (zero-width, bidirectional), surrogate, private use, unassigned.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn"}


def plain(text: str) -> str:
    """The text without escape sequences, control, bidirectional and other invisible characters; line ends are
    kept, of every kind as `\\n`, tabs are spaces."""
    text = re.sub(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]", "\n", _ESCAPES.sub("", text)).replace("\t", " ")
    kept = (one for one in text if one == "\n" or unicodedata.category(one) not in _HIDDEN)
    return unicodedata.normalize("NFC", "".join(kept)).strip()


def line(text: str) -> str:
    """As `plain`, in one line: a mail's subject."""
    return " ".join(plain(text).split())


def message(text: str) -> str:
    """What may be said.

    Raises: `thread.empty` or `thread.too_long`.
    """
    said = plain(text)
    if not said:
        raise Refusal("thread.empty")
    if len(said) > LIMIT:
        raise Refusal("thread.too_long", found=len(said), limit=LIMIT)
    return said
