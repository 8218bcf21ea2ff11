"""The life of a server enclave, as a set of pairs."""

from __future__ import annotations

from federation.transitions import Pairs

ENCLAVE: Pairs = frozenset(
    {
        ("starting", "ready"),
        ("starting", "lost"),
        ("ready", "lost"),
        ("starting", "stopped"),
        ("ready", "stopped"),
    }
)
