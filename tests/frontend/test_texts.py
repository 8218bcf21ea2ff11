"""Every text of the templates is marked for translation."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TEMPLATES = Path("frontend/templates")
# Names and signs that are the same in every language, and words of a command line.
SAME_EVERYWHERE = {
    "FedSlice", "·", "FMSPC", "SHA-256", "SHA-256(0x00 ‖", "SHA-256(0x01 ‖", "ε", "δ", "UTC", "s", "…", "–",
    "SHA-", "/", "→", ")", "(", ") =", ",", ".", ":", "‖", "PPID", "400", "403", "404", "500", "CSV", "×",
}  # fmt: skip
SPOKEN = (
    "aria-label", "title", "placeholder", "alt", "data-done", "data-label", "data-title", "data-across",
)  # fmt: skip


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


MARKS = {"_", "_l", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy"}
MACHINES = {
    # forms of words, in both languages (frontend/help/terms.py)
    "differential privacy|Differential Privacy",
    "reference values|reference value|Referenzwerte|Referenzwert",
    "run manifest|manifest|Laufmanifest|Manifest",
    "Lax",
    "Response",
    "Accept",
    "Location",
    "Referer",
    "Origin",
    "Origin checking failed",
    "not established",
    "Bearer",
    "the token in metrics-token is missing\n",
    "the log",
}
"""Names of headers, of a type, Django's reason, and keys of a bundle's report."""
CODE = re.compile(r"^(<|python )")
"""What is said to machines: markup, commands."""
WORDS = re.compile(r"[A-Za-z]{2,} [A-Za-z]|^[A-Z][a-z]+$")
"""Two words, or one that starts with a capital: a label, a title, a column's name."""


def unmarked_in_code(source: str) -> list[str]:
    """String literals that read like words for people, outside of docstrings and translation calls."""
    tree, passed = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(id(node.value))  # a docstring
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKS:
            passed |= {id(inner) for inner in ast.walk(node)}
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
            passed |= {id(inner) for inner in node.args}  # the operator's log
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed
        and WORDS.search(node.value) and not CODE.search(node.value) and node.value not in MACHINES
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('label = "Learning rate"', ["Learning rate"]),
        ('label = _("Learning rate")', []),
        ('COLUMNS = {"rank": "Rank"}', ["Rank"]),
        ('"""What this is."""', []),
        ('x = f"{n} rounds left"', [" rounds left"]),
        ('name = "learning_rate"', []),
    ],
)
def test_the_search_in_code_finds_what_is_not_marked(source: str, found: list[str]) -> None:
    assert unmarked_in_code(source) == found


def test_every_label_title_and_column_in_the_pages_code_is_marked() -> None:
    found = {
        f"{path.relative_to(TEMPLATES.parent)}: {text}"
        for path in sorted(TEMPLATES.parent.rglob("*.py"))
        for text in unmarked_in_code(path.read_text())
    }
    assert not found, "\n".join(sorted(found))


def test_states_and_roles_are_marked() -> None:
    """The labels of every choice that a page shows (`get_…_display`)."""
    from django.apps import apps
    from django.utils.functional import Promise

    plain = [
        f"{model.__name__}.{field.name}: {label}"
        for model in apps.get_models()
        if model.__module__.startswith(("federation.", "enclave_jobs."))
        for field in model._meta.get_fields()
        for _value, label in getattr(field, "choices", None) or ()
        if not isinstance(label, Promise) and not str(label).isdigit()
    ]
    assert not plain, "\n".join(plain)


def test_the_scripts_bring_no_words_of_their_own() -> None:
    """Their words come from the page, which marks them."""
    for path in (TEMPLATES.parent / "static").rglob("*.js"):
        source = re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.M)
        literals = re.findall(r"""(["'`])((?:(?!\1).)*)\1""", source)
        texts = [text for _quote, text in literals if re.match(r"[A-Za-z]+ [a-z]+", text)]
        texts = [text for text in texts if text not in ("use strict", "x unified", "system-ui, sans-serif")]
        assert not texts, (path.name, texts)
