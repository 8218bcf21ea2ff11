"""Sealed files: announced, brought up in frames or straight into a bucket, and where one may be read."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from contracts.agents_api.endpoint import Endpoint
from contracts.manifest import Identifier
from contracts.policy import Hex32
from contracts.program_calls import Nothing


class NewBlob(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A sealed file that the site wants to upload for a run."""

    sha256: Hex32
    bytes: Annotated[int, Meta(ge=1)]
    run: Identifier
    kind: Literal["update", "shard"] = "update"


class UploadStands(Struct, frozen=True):
    """The upload's id, and how many of its bytes are stored for good. `part_bytes`: so long are the parts
    that may be put into the storage straight away; left out where only frames are taken."""

    upload: str
    offset: int
    part_bytes: int | UnsetType = UNSET


class Offset(Struct, frozen=True):
    """How many bytes of the upload are stored for good."""

    offset: int


class PartBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of an upload that the site wants to put: its number from 1, and what its bytes hash to."""

    number: Annotated[int, Meta(ge=1, le=10_000)]
    sha256: Hex32


class Address(Struct, frozen=True):
    """Where it goes or lies; null where the part is there already."""

    url: str | None


class Whole(Struct, frozen=True):
    """Whether the upload was read back and is a blob; if not yet, ask again."""

    whole: bool


BEGIN = Endpoint("POST", "blobs", NewBlob, UploadStands)
STANDS = Endpoint("GET", "blobs/uploads/{upload}", Nothing, Offset)
FRAME = Endpoint("PATCH", "blobs/uploads/{upload}", Nothing, Offset)
"""The body is the next bytes as they are, with the header Upload-Offset."""
PART = Endpoint("POST", "blobs/uploads/{upload}/parts", PartBody, Address)
WHOLE = Endpoint("POST", "blobs/uploads/{upload}/whole", Nothing, Whole)
ADDRESS = Endpoint("GET", "blobs/{sha256}/url", Nothing, Address)
FILE = "blobs/{sha256}"
"""The file itself, with Range (RFC 9110, section 14)."""
