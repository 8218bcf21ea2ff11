"""Three hospitals whose labels differ in spelling: from their files over the cards, the lead's answer and the
frozen manifest to the class that an enclave reads in each row."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from django.test import Client
from django.urls import reverse

from contracts.refusal import Refusal
from enclave.training.row_reader import read_rows
from federation.datasets.models import Dataset
from federation.people.models import User
from federation.studies import services
from federation.studies.plan import Plan
from site_agent.datasets.card import make_card
from site_agent.datasets.columns import Columns
from site_agent.datasets.intake import Wishes, take_in
from tests.federation.cast import MODEL, Hospital
from tests.support.proofs import freeze

SPELLED = {
    "anna": ("Urgent", "routine", "Cardiologie g\u00e9n\u00e9rale"),
    "barbara": ("urgent", "Routine", "Cardiologie ge\u0301ne\u0301rale"),
    "clara": ("URGENT", "routine", "Cardiologie generale"),
}


def published(hospital: Hospital, labels: tuple[str, ...], folder: Path) -> tuple[Path, Dataset]:
    """The hospital takes its file in, and its agent sends the card."""
    source, kept = folder / f"{hospital.site.name}.csv", folder / f"{hospital.site.name}.jsonl"
    lines = [f"note {n} about a patient,{labels[n % 3]} \n" for n in range(90)]
    source.write_text("text,label\n" + "".join(lines), "utf-8")
    intake = take_in([source], kept, Wishes(Columns(text="text", label="label")))
    assert intake.findings is not None and intake.findings.questions() == ()
    card = msgspec.to_builtins(make_card(intake.labels, intake.splits, intake.rows.lengths))
    reported = hospital.call("post", "datasets", {"name": "notes", "digest": "d" * 64, "card": card}).json()
    return kept, Dataset.objects.get(pk=reported["id"])


@pytest.mark.usefixtures("reference_values", "base_model")
def test_three_hospitals_spellings_are_three_classes_for_every_enclave(
    anna: Hospital, barbara: Hospital, clara: Hospital, lena: User, tmp_path: Path
) -> None:
    hospitals = {"anna": anna, "barbara": barbara, "clara": clara}
    kept = {name: published(one, SPELLED[name], tmp_path) for name, one in hospitals.items()}
    datasets = [dataset for _, dataset in kept.values()]
    study = services.create_study(
        lena, name="Triage", purpose="Route messages", plan=Plan(model=MODEL), datasets=datasets
    )
    with pytest.raises(Refusal) as caught:
        freeze(lena, study)
    assert caught.value.code == "study.look_alike_labels"

    lead, where = Client(), reverse("study-step", args=[study.pk, "data"])
    lead.force_login(lena)
    sent = {"datasets": [str(dataset.pk) for dataset in datasets]}
    assert lead.post(where, sent).status_code == 422, "the wizard asks, too"
    page = lead.get(where).content.decode()
    assert "ge&lt;U+0301&gt;ne&lt;U+0301&gt;rale" in page and "St. Clara (30 rows)" in page
    confirmed = re.findall(r'name="alike_confirmed"\s+value="([^"]+)"', page)[0]
    assert lead.post(where, {**sent, "alike_confirmed": confirmed}).status_code == 302

    study.refresh_from_db()
    model = freeze(lena, study).model
    assert len(model.labels) == 3 and len(model.spellings) == 5
    assert set(model.labels) | set(model.spellings) == {label for own in SPELLED.values() for label in own}
    for name, own in SPELLED.items():
        rows = read_rows(kept[name][0], model, "text-label")
        assert {row.label for row in (*rows.train, *rows.validation, *rows.test)} == set(own), (
            "rows stay as they are"
        )
        assert sorted(model.classes[label] for label in own) == [0, 1, 2]
    for place in range(3):
        assert len({model.classes[own[place]] for own in SPELLED.values()}) == 1

    unspelt = msgspec.structs.replace(model, spellings={})
    refusals = 0
    for file, _ in kept.values():
        try:
            read_rows(file, unspelt, "text-label")
        except Refusal as refusal:
            refusals += refusal.code == "rows.unknown_label"
    assert refusals >= 2, "without the mapping the same rows are refused, never classes of their own"
