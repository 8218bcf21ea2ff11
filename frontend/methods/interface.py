"""What pages ask of a method. A module that has all of these is one; mypy holds it to that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from django.utils.functional import Promise

Text = str | Promise


class Method(Protocol):
    @property
    def adapters(self) -> tuple[str, ...]:
        """What a model may be seen to be tuned with (contracts.model_proof.way_of), the usual one first."""

    @property
    def averages(self) -> bool:
        """Whether the hospitals' updates are averaged: only then has a plan rules and noise for that."""

    @property
    def sends_once(self) -> bool:
        """Whether a hospital sends its features once, and nothing in each round."""

    @property
    def sentences(self) -> Mapping[str, Text]:
        """Lines of the timeline that read otherwise than `timeline.SENTENCES`, by the event's kind."""

    @property
    def memory_of_tee(self) -> Text:
        """Whose memory the TEE's is."""

    @property
    def memory_beside(self) -> Text:
        """What takes memory at a hospital outside a TEE."""

    @property
    def sent(self) -> Text:
        """What the bytes that a hospital sends are counted over."""

    def chosen(self, adapter: str, offered: list[str], /) -> dict[str, Any]:
        """What of a plan that tunes `adapter` changes when this method is chosen for it. `offered` are the
        adapters with which the model was seen to be tuned."""
