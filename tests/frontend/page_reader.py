"""Somebody reads a page."""

import re

from django.test import Client

from federation.people.models import User


def signed_in(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


def text(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return unlinked(answer.content.decode())


def unlinked(page: str) -> str:
    """A page without the links from its terms to the glossary."""
    return re.sub(r'<a class="term" href="[^"]*">([^<]*)</a>', r"\1", page)
