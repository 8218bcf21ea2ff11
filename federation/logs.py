"""What a line in a log is about: the ids of request, run, round and site, from the browser to the supervisor.

An id is set where it becomes known (`telling`, `also`) and stands in every line of that thread from then on;
a task's message and a call of the supervisor carry it on. Ids are for finding lines that belong together, and
prove nothing: a request's may come from outside.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from federation.without_links import WithoutLinks, without_links

NAMES = ("request", "run", "round", "site", "traceparent")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=MappingProxyType({}))


def about() -> dict[str, str]:
    """The ids that hold here."""
    return dict(_about.get())


@contextmanager
def telling(**ids: object) -> Iterator[None]:
    """These ids hold inside, too. What is no id (None, or text that could pass for another line) is left
    out."""
    token = _about.set(_with(ids))
    try:
        yield
    finally:
        _about.reset(token)


def begin(**ids: object) -> None:
    """These ids, and no others, hold in this thread from now on, until the next `begin`."""
    _about.set(MappingProxyType({}))
    also(**ids)


def also(**ids: object) -> None:
    """These ids hold from here to the end of the `telling` around."""
    _about.set(_with(ids))


def is_id(text: str) -> bool:
    """Whether a text from outside may stand in a line as an id."""
    return _ID.fullmatch(text) is not None


def _with(ids: Mapping[str, object]) -> dict[str, str]:
    fresh = {name: str(value) for name, value in ids.items() if name in NAMES and value is not None}
    return {**_about.get(), **{name: value for name, value in fresh.items() if is_id(value)}}


class PlainLines(WithoutLinks):
    """For people: the ids at the end, in brackets."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or lines, of a record."""
        ids = " ".join(f"{name}={value}" for name, value in _about.get().items())
        record.about = f" [{ids}]" if ids else ""
        return super().format(record)


class JsonLines(WithoutLinks):
    """For collectors: one JSON object a line, tracebacks inside it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z"
        line = {"at": at, "level": record.levelname, "logger": record.name, "process": record.process}
        line |= {"message": without_links(record.getMessage()), **_about.get()}
        if record.exc_info:
            line["trace"] = without_links(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=True)
