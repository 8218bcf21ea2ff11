"""Dataset cards: published and withdrawn."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from contracts.agents_api.endpoint import Endpoint
from contracts.kinds import Kind
from contracts.language_tags import LANGUAGE
from contracts.policy import Hex32
from contracts.program_calls import Nothing

THRESHOLD = 5
MAX_ROWS = 100_000_000

Rows = Annotated[int, Meta(ge=0, le=MAX_ROWS)]
Label = Annotated[str, Meta(min_length=1, max_length=200)]
Split = Literal["train", "validation", "test"]
Quantile = Literal["p10", "p25", "p50", "p75", "p90"]
Quantiles = dict[Quantile, Annotated[int, Meta(ge=0, le=100_000_000)]]
Language = Annotated[str, Meta(pattern=rf"^{LANGUAGE}\Z")]


class Card(Struct, forbid_unknown_fields=True, frozen=True):
    """All that the coordinator and the other sites learn of a dataset. It holds no row.

    `labels` and `splits` map names to numbers of rows; None is a count that is not published because it, or
    another that it would give away, is below `threshold`. `text_length` maps p10 … p90 to characters, rounded
    to two digits. The shortest and the longest text are left out: each is one person's. `public` is the
    site's word that anybody may read the rows; only such data may train unprotected. `kind`: what each row
    is. Of conversations `answer_length` is what the assistant says, in characters a row, and `turns` the
    number of messages; `languages` (BCP 47) are what a person at the site has said.
    """

    rows: Annotated[int, Meta(ge=1, le=MAX_ROWS)]
    labels: Annotated[dict[Label, Rows | None], Meta(max_length=1000)]
    splits: Annotated[dict[Split, Rows | None], Meta(min_length=1)]
    text_length: Quantiles
    threshold: Annotated[int, Meta(ge=THRESHOLD, le=1000)] = THRESHOLD
    public: bool = False
    kind: Kind = "text-label"
    answer_length: Quantiles = {}
    turns: Quantiles = {}
    languages: Annotated[tuple[Language, ...], Meta(max_length=20)] = ()


class DatasetBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`digest` is the site-keyed HMAC-SHA-256 of the content, in hex."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    digest: Hex32
    card: Card


class DatasetAnswer(Struct, frozen=True):
    """The dataset as it stands with the coordinator."""

    id: str
    name: str
    rows: int


PUBLISH = Endpoint("POST", "datasets", DatasetBody, DatasetAnswer)
WITHDRAW = Endpoint("DELETE", "datasets/{dataset_id}", Nothing, Nothing)
