"""What stands in the clear before state whose key the sites hold in shares: each, wrapped for its site."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from contracts.manifest import Identifier
from contracts.policy import Hex32
from contracts.sealed.hpke import WRAP_OVERHEAD

KEY_BYTES = 32
SHARE_BYTES = 2 + KEY_BYTES
MAX_SHARES = 1000
WrappedShare = Annotated[
    bytes, Meta(min_length=SHARE_BYTES + WRAP_OVERHEAD, max_length=SHARE_BYTES + WRAP_OVERHEAD)
]


class Escrow(Struct, frozen=True, forbid_unknown_fields=True):
    """A state key for whoever brings enough of the shares: each is wrapped for its site. Tells a host nothing
    of the key. `threshold` is what the file says: whoever reads it compares it with the manifest."""

    threshold: Annotated[int, Meta(ge=1, le=MAX_SHARES)]
    commitment: Hex32
    shares: Annotated[dict[Identifier, WrappedShare], Meta(min_length=1, max_length=MAX_SHARES)]
