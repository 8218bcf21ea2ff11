"""HTML in which the first occurrence of each term in a section leads to the glossary."""

from __future__ import annotations

import re

from django.urls import reverse
from django.utils.html import format_html

from frontend.help.terms import TERMS, pattern

_TAG = re.compile(r"(<!--.*?-->|<[^>]*>)", re.DOTALL)
_NAME = re.compile(r"</?\s*([a-zA-Z0-9-]+)")
VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}
APART = {
    "a", "button", "code", "h1", "h2", "h3", "label", "option", "pre", "script", "select", "style", "summary",
    "svg", "textarea", "th", "title",
}  # fmt: skip
"""In these a word is no text to be explained: it is a link or a control already, a heading, or code."""
SPOKEN = ("said-text", "crumbs")
"""Nor in these: what a person wrote, and where a page stands."""


def linked(html: str) -> str:
    """Each `<section>`, and what stands outside of any, links a term once."""
    found: list[str] = []
    stack: list[tuple[str, bool]] = []
    seen: list[set[str]] = [set()]
    for part in _TAG.split(html):
        if part.startswith("<"):
            _follow(part, stack, seen)
            found.append(part)
        elif part.strip() and not any(apart for _name, apart in stack):
            found.append(_with_links(part, seen[-1]))
        else:
            found.append(part)
    return "".join(found)


def _follow(tag: str, stack: list[tuple[str, bool]], seen: list[set[str]]) -> None:
    match = _NAME.match(tag)
    if match is None:
        return
    name = match[1].lower()
    if tag.startswith("</"):
        if any(name == open_ for open_, _apart in stack):
            while stack.pop()[0] != name:
                pass
        if name == "section" and len(seen) > 1:
            seen.pop()
    elif name not in VOID and not tag.endswith("/>"):
        # What a person wrote is shown as it is; what renews itself comes without links the next time.
        apart = name in APART or "hx-get=" in tag or any(f'class="{one}"' in tag for one in SPOKEN)
        stack.append((name, apart))
        if name == "section":
            seen.append(set())


def _with_links(text: str, seen: set[str]) -> str:
    def link(match: re.Match[str]) -> str:
        term = TERMS[int((match.lastgroup or "t0")[1:])]
        if term.key in seen:
            return match[0]
        seen.add(term.key)
        # The text is a piece of escaped HTML already, and the term has no character that needs it.
        return format_html('<a class="term" href="{}#{}">', reverse("help"), term.key) + match[0] + "</a>"

    return pattern().sub(link, text)
