"""What one enclave keeps of another that it has let in (admission.py)."""

from __future__ import annotations

from typing import NamedTuple

AGGREGATOR = "aggregator"
"""By this name a site knows the aggregator, and a contribution its recipient."""


class Peer(NamedTuple):
    """The attested keys of an admitted enclave (hex)."""

    hpke_key: str
    signing_key: str
