"""The life of a job, as a set of pairs. Leases that end in bulk (`leases.withdraw`, `leases.expire`) follow
it too."""

from __future__ import annotations

from federation.transitions import Pairs

JOB: Pairs = frozenset(
    {
        ("waiting", "leased"),
        ("leased", "done"),
        ("leased", "waiting"),  # the lease ran out, or the agent asks for another try
        ("leased", "failed"),
        ("done", "failed"),  # what it brought is of no use
        ("waiting", "withdrawn"),
        ("leased", "withdrawn"),
        ("waiting", "expired"),
        ("leased", "expired"),
    }
)
