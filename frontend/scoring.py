"""Why a round has no pooled scores, in words: the enclave's receipt says it by a name."""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from federation.studies.models import Round

WITHHELD: dict[str, str | Promise] = {
    "too_few_sites": _("not published: too few hospitals were scored"),
    "too_few_rows": _("not published: too few rows were scored"),
    "not_pooled": _("not published: others, or these same parameters, may have been scored before"),
    "another_set": _("not published: other hospitals than before were scored"),
}


def withheld(round: Round) -> str | Promise:
    """The reason, or nothing where the scores are there or the round has no receipt yet."""
    receipt = (round.receipt or {}).get("receipt", {})
    return WITHHELD.get((receipt.get("scoring") or {}).get("withheld") or "", "")
