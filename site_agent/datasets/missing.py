"""Words that exports write where there is nothing."""

from __future__ import annotations

import html
import re
import unicodedata

WORDS = frozenset(
    ("na", "n/a", "n\\a", "#n/a", "#na", "#nv", "n/d", "#n/d", "n.a", "n. a", "n.v", "n. v", "n.d", "n. d",
     "k.a", "k. a", "nan", "-nan", "np.nan", "nat", "pd.na", "null", "none", "nil", "undefined", "missing",
     "\\n", "blank", "empty", "leer", "vide", "no data", "no value", "not available", "tbd", "#getting_data",
     "keine angabe", "keine angaben", "ohne angabe", "nicht angegeben", "nicht vorhanden", "non renseigné",
     "non renseignée", "non disponible", "no disponible", "sin dato", "sin datos")
)  # fmt: skip
"""In lower case, without brackets, quotes and points around. What may be a class of its own (unknown, other)
is not among them."""
_EXCEL_ERROR = re.compile(r"#[¡¿]?[\w/]{2,14}[!?]")
_CODES = re.compile(r"-9{1,4}(\.0)?")
"""What statistics programs write."""
_NO_WORD = re.compile(r"[-\u2010-\u2015\u2212_./\\?#~()\[\]{}\s]*")
"""Not + and *, < and >: with these laboratories mark values."""


def looks_missing(value: str) -> bool:
    """Whether a label or text is a word for nothing; Excel's errors are (#REF!, #WERT!)."""
    if len(value) > 40:
        return False
    seen = "".join(sign for sign in html.unescape(value) if unicodedata.category(sign) != "Cf")
    plain = unicodedata.normalize("NFKC", seen).strip().casefold()
    word = plain.strip("<>()[]{}\"'` ").rstrip(".,:; ")
    return word in WORDS or any(shape.fullmatch(plain) for shape in (_NO_WORD, _CODES, _EXCEL_ERROR))
