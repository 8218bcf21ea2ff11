"""Facts of a refusal as JSON can say them. No enclave loads it: its own are numbers and names."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.refusal import Fact


def sayable(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    """With `?` for what is no text: a name of a file, or one that a stranger wrote, may hold half of a
    character pair, which no UTF-8 can say."""
    return {
        name: fact.encode(errors="replace").decode() if isinstance(fact, str) else fact
        for name, fact in facts.items()
    }
