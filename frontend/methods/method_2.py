"""Method 2 on pages: hospitals bring features once, and the server's enclave does the rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _

from frontend.methods.interface import Text

adapters = ("spf",)
averages = False
sends_once = True
sentences: Mapping[str, Text] = {
    "site.joined": _("%(site)s joined: its features are here, and the enclave has their keys."),
    "round.collecting": _("%(head)s takes the features of the hospitals that have joined."),
    "round.aggregating": _("%(head)s: the server enclave works on the features."),
    "contribution.submitted": _("%(site)s takes part with its features."),
    "contribution.accepted": _("%(site)s is in the round's receipt."),
}
memory_of_tee = _("memory of the server's TEE")
memory_beside = _("the frozen front, at a hospital")
sent = _("sent by a hospital, once, at most")


def chosen(adapter: str, offered: list[str]) -> dict[str, Any]:
    """One tail sees all features: no front in clear beside it, and no updates to average, to clip or to hide
    in noise, nor sites that train apart."""
    bounds = {"rule": "fedavg", "clip": None, "max_samples": None, "privacy": "none"}
    return {"front": 0, **bounds, "server_optimizer": "none", "proximal": 0.0}
