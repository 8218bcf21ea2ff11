"""The coordinator as an ASGI application (uvicorn serves it): Django, and the line on which agents wait."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from django.conf import settings

from federation.wsgi import application as django_application

if TYPE_CHECKING:
    from enclave_jobs.jobs.line import Line


class Application:
    """One `Line` for the process's event loop, which ends its waits when the process is told to end."""

    def __init__(self) -> None:
        self._line: Line | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._line is None:
            self._line = _line()
            self._end_with(self._line)
        await self._line(scope, receive, send)

    def _end_with(self, line: Line) -> None:
        """The server waits for open requests before it ends; agents' would keep it for half a minute."""
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before):
                signal.signal(number, partial(_close_and, line, before))


def _close_and(line: Line, before: Callable[[int, FrameType | None], Any], number: int, frame: Any) -> None:
    line.close()
    before(number, frame)


def _line() -> Line:
    """Imported late: its models need the Django that `federation.wsgi` has set up."""
    from enclave_jobs.jobs.bell import Bell
    from enclave_jobs.jobs.line import Line

    return Line(django_application, Bell(settings.REDIS_URL))


application = Application()
