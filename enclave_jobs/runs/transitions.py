"""Which state of a run, a round, a contribution may follow which."""

from __future__ import annotations

from federation.transitions import Pairs

_RUN_LIVE = ("starting", "joining", "running", "paused", "finishing")
RUN: Pairs = frozenset(
    {
        ("starting", "joining"),
        ("joining", "running"),
        ("running", "finishing"),
        ("finishing", "finished"),
        ("joining", "paused"),
        ("running", "paused"),
        ("paused", "joining"),
        ("paused", "running"),
        # The enclave was lost and starts again from its sealed state.
        ("joining", "starting"),
        ("running", "starting"),
        *((state, "failed") for state in _RUN_LIVE),
        *((state, "cancelled") for state in _RUN_LIVE),
    }
)

_ROUND_LIVE = ("open", "collecting", "countersigning", "aggregating")
ROUND: Pairs = frozenset(
    {
        ("open", "collecting"),
        ("collecting", "countersigning"),
        ("countersigning", "aggregating"),
        ("aggregating", "published"),
        *((state, "failed") for state in _ROUND_LIVE),
    }
)

CONTRIBUTION: Pairs = frozenset(
    {
        ("offered", "leased"),
        ("offered", "submitted"),  # Method 2: what the site contributes is here already
        ("leased", "working"),
        ("leased", "submitted"),
        ("working", "submitted"),
        ("submitted", "accepted"),
        # A lease ran out: offered again.
        ("leased", "offered"),
        ("working", "offered"),
        *((state, "dropped") for state in ("offered", "leased", "working", "submitted")),
        *((state, "refused") for state in ("offered", "leased", "working", "submitted")),
    }
)
