"""A hospital says in words what a dataset is; its card stays as it is."""

from __future__ import annotations

import pytest
from django.urls import reverse

from contracts.refusal import Refusal
from federation.audit.models import AuditEntry
from federation.datasets.about import LIMITS, describe
from federation.datasets.models import Dataset
from federation.people.models import User
from tests.federation.cast import Hospital, make_dataset
from tests.frontend.page_reader import signed_in, text

SAID = {
    "description": "Triage notes\r\nof adults.\x1b[2J\u202e <i>All</i> of them.",
    "period": "2019 to\n2024",
    "licence": "",
    "legal_basis": "Art. 9 (2) j GDPR; ethics vote 12/2024",
    "contact": "data@anna.example",
}


@pytest.fixture
def dataset(anna: Hospital) -> Dataset:
    return make_dataset(anna.site)


def test_what_its_admin_says_is_read_by_those_who_see_the_card(
    dataset: Dataset, alice: User, lena: User
) -> None:
    address, page = reverse("dataset-describe", args=[dataset.pk]), reverse("dataset", args=[dataset.pk])
    card = dataset.card
    client = signed_in(alice)
    assert "Describe it" in text(client, page) and "What the hospital says of it" not in text(client, page)
    assert client.post(address, SAID).headers["Location"] == page
    said = text(signed_in(lena), page)
    assert "Triage notes\nof adults. &lt;i&gt;All&lt;/i&gt; of them." in said and "2019 to 2024" in said
    assert "12/2024" in said and "Licence" not in said and "Describe" not in said
    dataset.refresh_from_db()
    assert dataset.card == card and AuditEntry.objects.filter(action="dataset.described").exists()
    # It can be changed, and comes back as it was.
    assert "Triage notes\nof adults." in text(client, address)
    client.post(address, {"contact": " "})
    assert "What the hospital says of it" not in text(client, page)


def test_nobody_else_says_anything(dataset: Dataset, lena: User, olga: User, carol: User) -> None:
    for user in (lena, olga, carol):
        with pytest.raises(Refusal, match=r"auth\.forbidden"):
            describe(user, dataset, SAID)
    assert Dataset.objects.get(pk=dataset.pk).about == {}


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_too_long_is_refused_and_kept_in_the_form(dataset: Dataset, alice: User, name: str) -> None:
    typed = {name: "x" * (LIMITS[name] + 1), "contact": "typed at night"} | (
        {"contact": "typed at night" * 30} if name == "contact" else {}
    )
    page = signed_in(alice).post(reverse("dataset-describe", args=[dataset.pk]), typed)
    assert page.status_code == 422 and "typed at night" in page.content.decode()
    assert Dataset.objects.get(pk=dataset.pk).about == {}
    with pytest.raises(Refusal, match=r"dataset\.words_too_long"):
        describe(alice, dataset, typed)
