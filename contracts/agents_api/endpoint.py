"""A request of the agents' API, named alike at both ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Generic, Literal, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from msgspec import Meta, Raw, Struct

B = TypeVar("B", bound=Struct)
W = TypeVar("W")
SignedJson = Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
"""An object that somebody has signed, as it stands: its own strict reader decodes it, where it counts."""
MaybeSignedJson = Annotated[Raw, Meta(extra_json_schema={"type": "object", "nullable": True})]
"""The same, or null, which `given` tells apart: msgspec reads no `Raw | None`."""
NOT_GIVEN = Raw(b"null")


class Endpoint(NamedTuple, Generic[B, W]):
    """`path` follows AGENTS_API and has a `{name}` for what varies. `body` is read strictly, unknown names
    refused. Of an `answer` unknown names are left alone: the coordinator is updated first, and may say more
    than an agent of before has use for."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    body: type[B]
    answer: type[W]

    def at(self, query: Mapping[str, str | int] | None = None, /, **where: str) -> str:
        """The path for what `where` names, with a query."""
        found = self.path.format(**{name: quote(value, safe="") for name, value in where.items()})
        return f"{found}?{urlencode(query)}" if query else found


def given(signed: Raw) -> bytes | None:
    """What was signed; None for null."""
    return None if bytes(signed) == bytes(NOT_GIVEN) else bytes(signed)
