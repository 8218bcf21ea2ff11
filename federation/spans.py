"""Spans, as OpenTelemetry has them: which work took how long, where FEDSLICE_TRACES names a collector.

A span says what was done, in words of ours, by which ids (federation/logs.py), from when to when, and whether
it failed; never a text, a row, a path or a parameter. Who asked is known by W3C's `traceparent`, which is one
of the ids and so goes from the browser's request over messages to the supervisor; an enclave hears none.

What nobody has asked for (the sweep does a run's next step) stands in the run's own trace, whose ids follow
from the run's id; any other span that is about a run links to that.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings

from federation import logs, otlp

CARRIED = "traceparent"
_FORM = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")


@dataclass
class Span:
    """One that has begun. `parent` is empty for the first of its trace."""

    name: str
    trace: str
    parent: str
    kind: int = otlp.INTERNAL
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    began: int = field(default_factory=time.time_ns)

    @property
    def carried(self) -> str:
        """What those say that work for it."""
        return f"00-{self.trace}-{self.id}-01"


def begin(name: str, given: str = "", kind: int = otlp.INTERNAL) -> Span | None:
    """The span that begins here; `given` is a `traceparent` from outside. None where traces are off."""
    if not settings.TRACES:
        return None
    ids = logs.about()
    asked = _FORM.fullmatch(given or ids.get(CARRIED, ""))
    if asked is not None:
        return Span(name, asked[1], asked[2], kind)
    if "run" in ids:
        return Span(name, *trace_of(ids["run"]), kind)
    return Span(name, secrets.token_hex(16), "", kind)


def end(span: Span | None, *, failed: bool = False, name: str = "", **facts: str | int) -> None:
    """It ends here, with the ids that hold now and the `facts` beside them."""
    if span is None:
        return
    ids = logs.about()
    ids.pop(CARRIED, None)
    links = []
    if "run" in ids and span.trace != (own := trace_of(ids["run"]))[0]:
        links.append(own)
    attributes = {f"fedslice.{key}": value for key, value in ids.items()} | facts
    otlp.send(
        otlp.encoded(
            name or span.name, (span.trace, span.id, span.parent), (span.began, time.time_ns()),
            kind=span.kind, attributes=attributes, links=links, failed=failed,
        )
    )  # fmt: skip


@contextmanager
def during(name: str, kind: int = otlp.INTERNAL) -> Iterator[None]:
    """A span around the block, which holds for what is asked for inside."""
    span = begin(name, kind=kind)
    if span is None:
        yield
        return
    with logs.telling(**{CARRIED: span.carried}):
        try:
            yield
        except BaseException:
            end(span, failed=True)
            raise
        end(span)


def of_run(run: str, began: datetime, ended: datetime, state: str) -> None:
    """The first span of a run's own trace, told when the run is over."""
    if not settings.TRACES:
        return
    times = (int(began.timestamp() * 1e9), int(ended.timestamp() * 1e9))
    attributes = {"fedslice.run": run, "fedslice.state": state}
    ids = (*trace_of(run), "")
    otlp.send(otlp.encoded("run", ids, times, attributes=attributes, failed=state != "finished"))


def trace_of(run: str) -> tuple[str, str]:
    """Trace and first span. A digest is no id of zeros but once in 2¹²⁸ or 2⁶⁴ runs."""
    digest = hashlib.sha256(b"fedslice run " + run.encode()).hexdigest()
    return digest[:32], digest[32:48]
