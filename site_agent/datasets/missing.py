"""Words that exports write where there is nothing."""

from __future__ import annotations

import re
import unicodedata

WORDS = frozenset(
    ("na", "n/a", "#n/a", "#na", "#nv", "n.a.", "n. a.", "n.v.", "nan", "-nan", "nat", "<na>", "null",
     "(null)", "none", "nil", "undefined", "missing", "\\n", "-", "--", "---", "?", ".", "\u2013", "\u2014",
     "(blank)", "(leer)", "leer", "k.a.", "k. a.", "keine angabe",
     "-9", "-99", "-999", "-9999")
)  # fmt: skip
"""In lower case. What may be a class of its own (unknown, other) is not among them."""
_EXCEL_ERROR = re.compile(r"#[a-zäöüß/0]{2,12}[!?]")


def looks_missing(value: str) -> bool:
    """Whether a label or text is a word for nothing; Excel's errors are (#REF!, #WERT!)."""
    if len(value) > 40:
        return False
    plain = unicodedata.normalize("NFKC", value).strip().casefold()
    return plain in WORDS or bool(_EXCEL_ERROR.fullmatch(plain))
