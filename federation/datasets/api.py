"""Agents publish dataset cards and withdraw them."""

from __future__ import annotations

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.agents_api.datasets import PUBLISH, WITHDRAW, DatasetAnswer
from federation.datasets import services
from federation.sites.agent_view import AgentView, agent
from federation.wire import answer, document, read


class Datasets(AgentView):
    """Publish a card. Publishing the same card again gives the same dataset."""

    max_body = 256 * 1024

    @extend_schema(**document(PUBLISH))
    def post(self, request: Request) -> HttpResponse:
        body = read(request, PUBLISH)
        dataset = services.publish(agent(request), name=body.name, digest=body.digest, card=body.card)
        return answer(PUBLISH, DatasetAnswer(dataset.pk, dataset.name, dataset.rows))


class DatasetDetail(AgentView):
    """Withdraw a dataset; doing it twice changes nothing."""

    @extend_schema(**document(WITHDRAW))
    def delete(self, request: Request, dataset_id: str) -> Response:
        services.withdraw(agent(request), dataset_id)
        return Response(status=204)
