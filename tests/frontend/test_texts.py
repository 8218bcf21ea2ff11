"""Every text of the templates is marked for translation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEMPLATES = Path("frontend/templates")
# Names and signs that are the same in every language, and words of a command line.
SAME_EVERYWHERE = {
    "FedSlice", "·", "FMSPC", "SHA-256", "SHA-256(0x00 ‖", "SHA-256(0x01 ‖", "ε", "δ", "UTC", "s", "…", "–",
    "SHA-", "/", "→", ")", "(", ") =", ",", ".", ":", "‖", "PPID", "400", "403", "404", "500", "CSV", "×",
}  # fmt: skip
SPOKEN = ("aria-label", "title", "placeholder", "alt", "data-done", "data-label", "data-title")


def unmarked(source: str) -> list[str]:
    """Texts between tags, and in attributes that are read out, outside of any translation tag."""
    source = re.sub(r"{% (blocktrans\w*)\b.*?{% end\1 %}", "", source, flags=re.S)
    source = re.sub(r"{% block main_class %}.*?{% endblock %}", "", source)
    source = re.sub(r"{% comment %}.*?{% endcomment %}|{#.*?#}|<!--.*?-->", "", source, flags=re.S)
    source = re.sub(r"<!doctype[^>]*>|<span class=\"code\">.*?</span>", "", source, flags=re.S)
    source = re.sub(r"<(pre|code|script|style)\b.*?</\1>", "", source, flags=re.S)
    source = re.sub(r"{%.*?%}|{{.*?}}", "\x00", source, flags=re.S)
    spoken = [value for name in SPOKEN for value in re.findall(rf'\s{name}="([^"]*)"', source)]
    between = re.sub(r"<[^>]*>", "\x01", source)
    pieces = [piece for text in (between, *spoken) for piece in re.split("[\x00\x01]", text)]
    return [
        " ".join(piece.split())
        for piece in pieces
        if re.search(r"[^\W\d_]", piece)
        and " ".join(piece.split()).strip(" ,.:;()=·0123456789") not in SAME_EVERYWHERE
    ]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("<p>Hello</p>", ["Hello"]),
        ('<p>{% translate "Hello" %}</p>', []),
        ('<b title="Hello">{{ name }}</b>', ["Hello"]),
        ("<td data-label=\"{% translate 'State' %}\">{{ x }}</td>", []),
        ("{% blocktranslate count n=n %}one{% plural %}{{ n }}{% endblocktranslate %} left", ["left"]),
        ("<pre>python -m site_agent</pre><code>x</code>", []),
    ],
)
def test_the_search_itself_finds_what_is_not_marked(source: str, found: list[str]) -> None:
    assert unmarked(source) == found


def test_every_text_is_marked() -> None:
    found = {
        f"{path.relative_to(TEMPLATES)}: {text}"
        for path in sorted(TEMPLATES.rglob("*.html"))
        for text in unmarked(path.read_text())
    }
    assert not found, "\n".join(sorted(found))
