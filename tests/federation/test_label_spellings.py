"""Labels that hospitals spell differently: side by side for the lead, who decides, and read so by all."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import msgspec
import pytest
from django.test import Client
from django.urls import reverse
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.labels import look_alikes, skeleton, spelled
from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from federation.datasets.models import Dataset
from federation.people.models import User
from federation.studies import services
from federation.studies.labels import groups
from federation.studies.models import Study
from federation.studies.plan import Plan
from manifest_summary.summary import labels as label_facts
from site_agent.weaknesses import of_labels
from tests.federation.cast import MODEL, Hospital
from tests.support.proofs import freeze

HIDDEN = "\u200b\u00ad\u2060\ufe0f\u034f"
LABEL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(LABEL)
def test_the_skeleton_of_a_skeleton_is_itself(label: str) -> None:
    assert skeleton(skeleton(label)) == skeleton(label)


@given(st.lists(LABEL, max_size=8), st.randoms())
def test_groups_do_not_depend_on_order_and_no_label_is_in_two(labels: list[str], shuffle: Any) -> None:
    shuffled = list(labels)
    shuffle.shuffle(shuffled)
    found = look_alikes(labels)
    assert look_alikes(shuffled) == found
    grouped = [label for group in found for label in group]
    assert len(set(grouped)) == len(grouped) and set(grouped) <= set(labels)


@example("\u00c2\u00a0", "\u200b", 0)  # a blank without a break, read in the wrong encoding
@given(LABEL, st.sampled_from(HIDDEN), st.integers(0, 12))
def test_what_cannot_be_seen_or_is_composed_otherwise_makes_no_other_label(
    label: str, hidden: str, place: int
) -> None:
    for twin in (label[:place] + hidden + label[place:], unicodedata.normalize("NFD", label), f" {label} "):
        assert skeleton(twin) == skeleton(label) or hidden in twin
    assert hidden not in skeleton(label[:place] + hidden + label[place:])


def test_what_cannot_be_seen_is_named_for_people() -> None:
    assert spelled("yes\u200b") == "yes<U+200B>"
    assert spelled("ge\u0301ne") == "ge<U+0301>ne" and spelled("g\u00e9ne") == "g\u00e9ne"
    assert spelled("yes  no ") == "yes␣ no␣" and spelled("\u00a0yes") == "<U+00A0>yes"
    assert spelled("\x1b[2J") == "<U+001B>[2J"


@pytest.fixture
def spelt(draft: Study, anna: Hospital, barbara: Hospital) -> Study:
    """St. Anna writes "Yes" (40 rows) and "no"; St. Barbara "yes" (10 rows) and "no"."""
    card = {"rows": 60, "splits": {"train": 60}, "text_length": {}}
    Dataset.objects.filter(site=anna.site).update(card={**card, "labels": {"Yes": 40, "no": 20}})
    Dataset.objects.filter(site=barbara.site).update(card={**card, "labels": {"yes": 10, "no": None}})
    return draft


def settle(lena: User, study: Study, **changes: Any) -> None:
    services.update_study(
        lena, study, name=study.name, purpose="", plan=Plan(model=MODEL, **changes),
        datasets=list(study.datasets.all()),
    )  # fmt: skip


def refused(lena: User, study: Study) -> str:
    with pytest.raises(Refusal) as caught:
        freeze(lena, study)
    return caught.value.code


def test_a_study_is_not_frozen_before_somebody_says_what_look_alikes_mean(spelt: Study, lena: User) -> None:
    assert refused(lena, spelt) == "study.look_alike_labels"
    settle(lena, spelt, different_labels=("Yes",))
    assert refused(lena, spelt) == "study.look_alike_labels"
    settle(lena, spelt, different_labels=("Yes", "yes"))
    frozen = freeze(lena, spelt)
    assert (frozen.model.labels, frozen.model.spellings) == (("Yes", "no", "yes"), {})


def test_one_class_stands_in_the_manifest_with_every_spelling(spelt: Study, lena: User) -> None:
    settle(lena, spelt, same_labels={"yes": "Yes", "gone": "no"})
    frozen = freeze(lena, spelt)
    assert (frozen.model.labels, frozen.model.spellings) == (("Yes", "no"), {"yes": "Yes"})
    assert frozen.model.classes == {"Yes": 0, "no": 1, "yes": 0}


@pytest.mark.parametrize("same", [{"yes": "no"}, {"yes": "YES"}, {"yes": "Yes", "Yes": "yes"}])
def test_only_look_alikes_are_one_class_and_only_under_a_name_that_is_there(
    spelt: Study, lena: User, same: dict[str, str]
) -> None:
    settle(lena, spelt, same_labels=same)
    assert refused(lena, spelt) == "study.unlike_labels"


def test_what_one_hospital_keeps_apart_is_merged_only_by_who_says_so(
    spelt: Study, lena: User, anna: Hospital
) -> None:
    card = {"rows": 60, "splits": {"train": 60}, "text_length": {}, "labels": {"Yes": 30, "yes": 30}}
    Dataset.objects.filter(site=anna.site).update(card=card)
    assert [group.within for group in groups(list(spelt.datasets.all()))] == [("St. Anna",)]
    settle(lena, spelt, same_labels={"yes": "Yes"})
    assert refused(lena, spelt) == "study.merges_own_labels"
    settle(lena, spelt, same_labels={"yes": "Yes"}, merge_own_labels=True)
    model = freeze(lena, spelt).model
    named = [weakness.name for weakness in of_labels(model, card["labels"])]  # type: ignore[arg-type]
    assert named == ["merges-own-labels"], "that hospital is asked for a yes of its own"


def test_a_hospital_reads_what_stands_for_what_and_names_what_does_not_look_alike() -> None:
    spec = ModelSpec("m", "sequence-classification", {"f": "0" * 64}, ("Yes", "no"), 16, {"yes\u200b": "Yes"})
    assert ("Labels read as one", "“yes<U+200B>” as “Yes”", False) in label_facts(spec)
    assert list(of_labels(spec, ["yes\u200b", "no"])) == []
    crooked = msgspec.structs.replace(spec, spellings={"benign": "Yes"})
    assert [weakness.name for weakness in of_labels(crooked, ["Yes", "no"])] == ["unlike-labels"]


class TestWizard:
    """The step "Data"."""

    @pytest.fixture
    def lead(self, lena: User) -> Client:
        client = Client()
        client.force_login(lena)
        return client

    @staticmethod
    def sent(study: Study, **more: str) -> dict[str, Any]:
        return {"datasets": [str(pk) for pk in study.datasets.values_list("pk", flat=True)], **more}

    def test_the_lead_sees_them_side_by_side_with_the_commonest_proposed(
        self, lead: Client, spelt: Study
    ) -> None:
        page = lead.get(reverse("study-step", args=[spelt.pk, "data"])).content.decode()
        assert "Labels that look alike" in page
        group = groups(list(spelt.datasets.select_related("site")))[0]
        assert [one.label for one in group.spellings] == ["Yes", "yes"]
        assert f'value="{group.spellings[0].key}" checked' in page
        assert "St. Anna (40 rows)" in page and "St. Barbara (10 rows)" in page

    def test_nothing_is_saved_before_the_lead_has_confirmed_these_very_groups(
        self, lead: Client, spelt: Study
    ) -> None:
        where = reverse("study-step", args=[spelt.pk, "data"])
        assert lead.post(where, self.sent(spelt)).status_code == 422
        assert lead.post(where, self.sent(spelt, alike_confirmed="0" * 12)).status_code == 422
        page = lead.get(where).content.decode()
        value = re.findall(r'name="alike_confirmed"\s+value="([^"]+)"', page)[0]
        assert lead.post(where, self.sent(spelt, alike_confirmed=value)).status_code == 302
        spelt.refresh_from_db()
        assert spelt.settings["same_labels"] == {"yes": "Yes"}
        assert freeze(spelt.lead, spelt).model.labels == ("Yes", "no")

    def test_the_lead_may_say_that_they_differ_or_take_the_other_name(
        self, lead: Client, spelt: Study
    ) -> None:
        where = reverse("study-step", args=[spelt.pk, "data"])
        group = groups(list(spelt.datasets.all()))[0]
        page = lead.get(where).content.decode()
        value = re.findall(r'name="alike_confirmed"\s+value="([^"]+)"', page)[0]
        for chosen, same in (("different", {}), (group.spellings[1].key, {"Yes": "yes"})):
            said = self.sent(spelt, alike_confirmed=value, **{f"alike-{group.key}": chosen})
            assert lead.post(where, said).status_code == 302
            spelt.refresh_from_db()
            assert spelt.settings["same_labels"] == same
        assert f'value="{group.spellings[1].key}" checked' in lead.get(where).content.decode()
        review = lead.get(reverse("study-step", args=[spelt.pk, "review"])).content.decode()
        assert "Labels read as one" in review and "“Yes” as “yes”" in review
