"""The words that argparse has of its own (usage, error, positional arguments), in the terminal's language."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from translations.catalogues import marked, words

_ = words("site_agent")

TEXTS = (
    marked("usage: "),
    marked("positional arguments"),
    marked("options"),
    marked("show this help message and exit"),
    marked("show program's version number and exit"),
    marked("%(prog)s: error: %(message)s\n"),
    marked("argument %(argument_name)s: %(message)s"),
    marked("expected one argument"),
    marked("expected at most one argument"),
    marked("expected at least one argument"),
    marked("expected %s argument"),
    marked("expected %s arguments"),
    marked("not allowed with argument %s"),
    marked("one of the arguments %s is required"),
    marked("the following arguments are required: %s"),
    marked("unrecognized arguments: %s"),
    marked("ambiguous option: %(option)s could match %(matches)s"),
    marked("ignored explicit argument %r"),
    marked("invalid %(type)s value: %(value)r"),
    marked("invalid choice: %(value)r (choose from %(choices)s)"),
)
"""Those that somebody at a terminal can meet; the others are for whoever programs."""


@contextmanager
def in_our_words() -> Iterator[None]:
    """argparse looks its texts up by two names of its own module, in a catalogue that it has not."""
    kept = {name: getattr(argparse, name) for name in ("_", "ngettext")}
    setattr(argparse, "_", _)  # noqa: B010  typeshed knows neither name
    setattr(argparse, "ngettext", lambda one, many, count: _(one if count == 1 else many))  # noqa: B010
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(argparse, name, value)
