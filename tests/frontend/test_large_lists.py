"""At a thousand hospitals no page is heavier, or asks the database more, than its readers can wait for.

Bytes and questions are counted, never time: benchmarks/pages.py and benchmarks/finding.py tell that.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from benchmarks import pages
from federation.people.models import User
from federation.sites.models import Site
from tests.frontend.test_query_counts import PINS

pytestmark = [pytest.mark.django_db, pytest.mark.slow, pytest.mark.timeout(900)]
CROWD = pages.PageLoad(sites=1000, studies=200, rounds=3, entries=4000)
MORE_THAN_PINNED = 8
"""Of a world in which everything is there at once; a list that asked for each of a thousand would show."""


@pytest.fixture
def world(settings: Any) -> dict[str, Any]:
    settings.SECOND_FACTOR_ROLES = ()
    return pages.fill(CROWD)


def test_no_page_is_heavy_at_a_thousand_hospitals(world: dict[str, Any]) -> None:
    people = {
        "alice": User.objects.get(site=Site.objects.get(pk=world["site_id"])),
        "lena": User.objects.get(email="lena@university.example"),
        "olga": User.objects.get(email="olga@coordinator.example"),
        "audrey": User.objects.get(email="audrey@authority.example"),
    }
    clients = {who: Client() for who in people}
    for who, client in clients.items():
        client.force_login(people[who])
    heavy, visited = {}, 0
    for name, who, address in pages.visits(world):
        clients[who].get(address)
        with CaptureQueriesContext(connection) as asked:
            answer = clients[who].get(address)
        assert answer.status_code in (200, 204, 302), (name, answer.status_code)
        visited += 1
        weight = len(answer.content) if not answer.streaming else 0
        if weight > pages.GOAL_BYTES or len(asked) > PINS.get(name, 12) + MORE_THAN_PINNED:
            heavy[f"{name} ({who})"] = (weight, len(asked), PINS.get(name))
    assert visited > 50
    assert not heavy, f"bytes, queries, pinned queries: {heavy}"
