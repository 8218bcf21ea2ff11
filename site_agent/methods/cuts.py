"""What a model does not read of a site's rows, told in the site's own log alone."""

from __future__ import annotations

import logging

from contracts.manifest import Manifest
from site_agent.formatting import counted

log = logging.getLogger(__name__)


def tell_of_cuts(cut: int, left_out: int, manifest: Manifest) -> None:
    """`cut` rows are longer than the run reads; `left_out` have no token to learn, and do not count."""
    if cut:
        log.warning(
            "the run reads %d tokens of a text: cut off %s", manifest.model.max_tokens, counted(cut, "row")
        )
    if left_out:
        log.warning("nothing can be learnt of %s: left out", counted(left_out, "row"))
