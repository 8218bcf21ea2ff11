"""What a round of Method 1 continues, as the coordinator tells an agent, and the agent its client slice."""

from __future__ import annotations

from msgspec import Struct

from contracts.policy import Hex32
from contracts.receipts import SignedReceipt
from contracts.reissue import SignedReissue


class Previous(Struct, forbid_unknown_fields=True, frozen=True):
    """What a round continues: the sealed state at `in/<sha256>`, the receipt that stands for it, and the
    reissue where the state was sealed again."""

    sha256: Hex32
    receipt: SignedReceipt
    reissue: SignedReissue | None = None
