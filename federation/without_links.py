"""No secret link stands in a log: whoever reads logs could use it before the person to whom it was sent."""

from __future__ import annotations

import logging
import re

_TOKEN = re.compile(r"fs_[A-Za-z0-9_-]{43}")  # federation/tokens.py: invitations, enrolment
_RESET = re.compile(r"(/password/[^/\s]+/)[0-9a-z]+-[0-9a-f]{32}")  # Django's own, of a new password


def without_links(text: str) -> str:
    """The text with `…` for the secret part of each such link."""
    return _RESET.sub(r"\1…", _TOKEN.sub("fs_…", text))


class WithoutLinks(logging.Formatter):
    """Puts `…` for the secret part of such a link, wherever in a text it stands, tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or lines, of a record."""
        return without_links(super().format(record))
