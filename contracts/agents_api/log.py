"""The transparency log as agents follow it, collateral for their own quotes, and the release statement."""

from __future__ import annotations

from msgspec import Struct

from contracts.agents_api.endpoint import Endpoint, MaybeSignedJson
from contracts.log.proof import Logged
from contracts.policy import Hex32
from contracts.program_calls import Nothing


class CollateralAnswer(Struct, frozen=True):
    """QuoteCollateralV3 as JSON fields, for SGX quotes and for TDX quotes; null where the site's hardware has
    no use for it."""

    sgx: dict[str, str] | None = None
    tdx: dict[str, str] | None = None


class CheckpointAnswer(Struct, frozen=True):
    """`checkpoint` is the C2SP signed note, `key` the log's vkey: keep the first that you see."""

    checkpoint: str
    key: str
    size: int


class ConsistencyAnswer(Struct, frozen=True):
    """That the log of size `second` grew from that of size `first`."""

    first: int
    second: int
    proof: list[Hex32]


class InclusionAnswer(Struct, frozen=True):
    """`proof` leads from the entry's leaf hash to the root over `size` entries."""

    index: int
    size: int
    leaf_hash: str
    proof: list[Hex32]


class ReleaseStatementAnswer(Struct, frozen=True):
    """The newest one (contracts/release_statement.py), or null where none was published."""

    statement: MaybeSignedJson


COLLATERAL = Endpoint("GET", "collateral", Nothing, CollateralAnswer)
"""In the query `fmspc` and `ca`, of the platform."""
CHECKPOINT = Endpoint("GET", "log/checkpoint", Nothing, CheckpointAnswer)
CONSISTENCY = Endpoint("GET", "log/consistency", Nothing, ConsistencyAnswer)
"""In the query `from` and `to`, sizes of the log."""
INCLUSION = Endpoint("GET", "log/inclusion", Nothing, InclusionAnswer)
"""In the query `entry`, and `size`. For auditors' own tools: agents ask for PROOF."""
PROOF = Endpoint("GET", "log/proof", Nothing, Logged)
"""In the query `kind`, `manifest`, and `key` or `round`."""
RELEASE_STATEMENT = Endpoint("GET", "release-statement", Nothing, ReleaseStatementAnswer)
