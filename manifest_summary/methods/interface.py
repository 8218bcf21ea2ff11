"""What is told of a method. A module that has all of these is one; mypy holds it to that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from contracts.manifest import Manifest
from manifest_summary.facts import Fact


class Method(Protocol):
    """A method of training, in words."""

    def sent(self, manifest: Manifest, /) -> str:
        """What leaves, in one sentence; what `leaving` says in full."""

    def opened_by(self, manifest: Manifest, /) -> str:
        """Who can read what leaves, in one sentence."""

    def ever(self) -> str:
        """What leaves in any run, for whoever looks after a hospital's network."""

    def where(self, manifest: Manifest, /) -> list[Fact]:
        """Which part of the computing is inside an enclave, where there is a choice of it."""

    def begins(self, manifest: Manifest, /) -> list[Fact]:
        """How often a hospital's own enclave may begin, where it has one."""

    def leaving(self, manifest: Manifest, /) -> list[Fact]:
        """What crosses a hospital's border, and when."""

    def never(self, manifest: Manifest, /) -> str:
        """What nobody outside gets to read."""

    def joining(self, manifest: Manifest, rows: Sequence[int | None], /) -> list[Fact]:
        """How what the hospitals bring becomes one model. `rows`: as `summary` takes them."""
