"""Method 1 on pages: every hospital trains, in every round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _

from frontend.methods.interface import Text

adapters = ("lora", "prefix")
averages = True
sends_once = False
sentences: Mapping[str, Text] = {}
memory_of_tee = _("memory of each hospital's TEE")
memory_beside = _("beside the TEE, at a hospital")
sent = _("sent by a hospital over the run")


def chosen(adapter: str, offered: list[str]) -> dict[str, Any]:
    """The adapter that the plan has, where the model was seen to take it."""
    return {} if adapter in offered else {"adapter": offered[0]}
