"""Agents publish dataset cards and withdraw them."""

from __future__ import annotations

from typing import Annotated

from drf_spectacular.utils import extend_schema
from msgspec import Meta, Struct
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.policy import Hex32
from federation.datasets import services
from federation.datasets.cards import Card
from federation.wire import AgentView, agent, document, read


class DatasetBody(Struct, forbid_unknown_fields=True):
    """`digest` is the site-keyed HMAC-SHA-256 of the content, in hex."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    digest: Hex32
    card: Card


class DatasetAnswer(Struct):
    id: str
    name: str
    rows: int


class Datasets(AgentView):
    """Publish a card. Publishing the same card again gives the same dataset."""

    max_body = 256 * 1024

    @extend_schema(**document(DatasetBody, DatasetAnswer))
    def post(self, request: Request) -> Response:
        body = read(request, DatasetBody)
        dataset = services.publish(agent(request), name=body.name, digest=body.digest, card=body.card)
        return Response({"id": dataset.pk, "name": dataset.name, "rows": dataset.rows})


class DatasetDetail(AgentView):
    """Withdraw a dataset; doing it twice changes nothing."""

    @extend_schema(**document(None, None, 204))
    def delete(self, request: Request, dataset_id: str) -> Response:
        services.withdraw(agent(request), dataset_id)
        return Response(status=204)
