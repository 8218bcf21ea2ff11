"""Which state of a study may follow which."""

from __future__ import annotations

from federation.transitions import Pairs

STUDY: Pairs = frozenset(
    {
        ("draft", "approving"),
        ("draft", "cancelled"),
        ("approving", "draft"),  # reopened, or a site's key changed
        ("approving", "ready"),
        ("approving", "cancelled"),
        ("ready", "draft"),
        ("ready", "running"),
        ("ready", "cancelled"),
        ("running", "finished"),
        ("running", "draft"),  # its run failed: fix, freeze and ask again
        ("running", "cancelled"),
    }
)
