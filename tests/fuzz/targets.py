"""Every parser of bytes that crosses a boundary, with valid inputs to begin from.

A target takes bytes and answers or raises `Refusal`; anything else that it raises is a fault. What makes a
target costly (a model, a bundle) is made once, by `functools.cache`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Parse = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """`seeds` gives valid inputs; `parse` reads one. `milliseconds`: of CPU, what one input may take."""

    name: str
    seeds: Callable[[], list[bytes]]
    parse: Parse
    milliseconds: int = 3000


TARGETS: dict[str, Target] = {}


def target(
    name: str, seeds: Callable[[], list[bytes]], *, milliseconds: int = 3000
) -> Callable[[Parse], Parse]:
    """Register a parser under a name."""

    def register(parse: Parse) -> Parse:
        assert name not in TARGETS, name
        TARGETS[name] = Target(name, seeds, parse, milliseconds)
        return parse

    return register


def load() -> dict[str, Target]:
    """All targets; importing the modules beside this one registers them."""
    from tests.fuzz import of_attestation, of_contracts, of_files, of_programs

    assert of_attestation and of_contracts and of_files and of_programs
    return TARGETS
