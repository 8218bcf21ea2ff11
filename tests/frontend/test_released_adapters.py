"""A lead lets a study start from a released adapter: it is brought, chosen, held against the plan by name,
and read by the hospitals in the manifest; freezing refuses what the wizard would."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from contracts.refusal import Refusal
from contracts.sealed.package import ABOUT, ADAPTER, ADAPTER_CONFIG, README, ROWS, zipped
from enclave_jobs.blobs.api import readable
from enclave_jobs.blobs.models import Blob, BlobKind
from enclave_jobs.releases import starting
from enclave_jobs.releases.starting import from_file
from enclave_jobs.runs.models import Run
from federation.people.models import User
from federation.studies.freezing import build_manifest
from federation.studies.models import BaseModel, StartingAdapter, Study
from manifest_summary.summary import summary
from tests.federation.cast import Hospital
from tests.frontend.wizard_pages import at, text

TENSORS = safetensors.numpy.save({"base_model.model.x.lora_A.weight": np.ones((4, 4), np.float32)})
SHA = hashlib.sha256(TENSORS).hexdigest()
LORA = {"adapter": "lora", "rank": 4, "alpha": 8, "prefix_length": 4}


@pytest.fixture(autouse=True)
def stored(settings: Any, tmp_path: Path) -> None:
    settings.BLOB_DIR = tmp_path / "blobs"


def package(study: Study, about: dict[str, Any] | None = None, config: dict[str, Any] | None = None) -> bytes:
    """As an enclave releases it, of a run like this study's."""
    model = BaseModel.objects.get(source=study.settings["model"], task=study.settings["task"])
    labels = list(build_manifest(study).model.labels)
    said = {
        "format": "fedslice-release/1", "run": "r-9", "study": "Earlier", "manifest": "1" * 64,
        "receipt": "2" * 64, "rule": "export", "model": {"source": model.source, "files": model.files},
        "task": model.task, "labels": labels, "several_labels": False, "adapter": "lora", "scale": 2.0,
        "placement": "all_in_tee", "development": True,
    }  # fmt: skip
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": False,
                "target_modules": list(model.targets)}  # fmt: skip
    return zipped(
        {
            README: b"#",
            ABOUT: json.dumps(said | (about or {})).encode(),
            ADAPTER_CONFIG: json.dumps(settings | (config or {})).encode(),
            ADAPTER: TENSORS,
        }
    )


def bring(lead: Client, data: bytes) -> Any:
    return lead.post(reverse("adapters"), {"package": SimpleUploadedFile("adapter.zip", data)})


def test_it_is_brought_chosen_frozen_and_read(
    lead: Client, shaped: Study, anna: Hospital, clara: Hospital
) -> None:
    assert bring(lead, package(shaped)).status_code == 302
    assert SHA in text(lead.get(reverse("adapters")))
    assert f'value="{SHA}"' in text(lead.get(at(shaped, "tuning")))
    assert lead.post(at(shaped, "tuning"), {**LORA, "start": SHA}).status_code == 302
    shaped.refresh_from_db()
    manifest = build_manifest(shaped)
    assert (manifest.model.start, manifest.model.start_receipt) == (SHA, "2" * 64)
    facts = {fact.name: fact.value for section in summary(manifest) for fact in section.facts}
    assert "It may remember texts of that study" in facts["Tuning starts from"]
    assert facts["File of that adapter (SHA-256)"] == SHA
    assert "Tuning starts from" in text(lead.get(at(shaped, "review")))
    # Members of a run that starts from it fetch it, and nobody else.
    from contracts.canonical import canonical

    with pytest.raises(Refusal, match=r"blob\.unknown"):
        readable(anna.site, SHA)
    said = canonical(manifest).decode()
    Run.objects.create(pk=manifest.run, study=shaped, manifest=said, manifest_hash=manifest.hash)
    assert readable(anna.site, SHA).kind == BlobKind.START
    with pytest.raises(Refusal, match=r"blob\.unknown"):
        readable(clara.site, SHA)


@pytest.mark.parametrize(
    ("about", "config", "asked", "what"),
    [
        ({}, {"r": 8}, {}, "rank"),
        ({}, {"lora_alpha": 16}, {}, "alpha"),
        ({}, {"use_rslora": True}, {}, "rslora"),
        ({}, {"target_modules": ["query"]}, {}, "targets"),
        ({}, {"layers_to_transform": [3, 4, 5]}, {}, "first tuned layer"),
        ({}, {}, {"front": 1, "front_sample": 32}, "first tuned layer"),
        ({"labels": ["one", "two", "three"]}, {}, {}, "labels"),
        ({"several_labels": True}, {}, {}, "several labels"),
        ({"task": "causal-lm"}, {}, {}, "task"),
        ({"model": {"source": "x", "files": {"config.json": "3" * 64}}}, {}, {}, "base model"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_in_the_wizard_and_when_freezing(
    lead: Client,
    shaped: Study,
    about: dict[str, Any],
    config: dict[str, Any],
    asked: dict[str, Any],
    what: str,
) -> None:
    bring(lead, package(shaped, about, config))
    page = lead.post(at(shaped, "tuning"), {**LORA, **asked, "start": SHA})
    assert page.status_code == 422 and f"({what})" in page.context["form"].errors["start"][0]
    settings = {**shaped.settings, "rank": 4, "alpha": 8, "front": asked.get("front", 0), "start": SHA}
    Study.objects.filter(pk=shaped.pk).update(settings=settings)
    shaped.refresh_from_db()
    with pytest.raises(Refusal) as caught:
        build_manifest(shaped)
    assert (caught.value.code, caught.value.facts["what"]) == ("study.start_unfit", what)


def test_what_has_no_lora_cannot_start_from_one(lead: Client, shaped: Study) -> None:
    bring(lead, package(shaped))
    page = lead.post(at(shaped, "tuning"), {**LORA, "adapter": "prefix", "start": SHA})
    assert "P-Tuning v2 without LoRA" in page.context["form"].errors["start"][0]
    for change in ({"adapter": "prefix"}, {"method": "method-2", "tuned_lora": []}):
        Study.objects.filter(pk=shaped.pk).update(settings={**shaped.settings, **change, "start": SHA})
        study = Study.objects.get(pk=shaped.pk)
        with pytest.raises(Refusal, match=r"study\.start_not_lora"):
            build_manifest(study)


def test_what_is_no_release_of_lora_is_not_taken(lead: Client, shaped: Study) -> None:
    rows = zipped({README: b"#", ABOUT: package_about(shaped, adapter="spf"), ROWS: TENSORS})
    for data, code in (
        (b"PK", "start.bad_package"),
        (package(shaped, {"labels": None}), "start.bad_package"),
        (package(shaped, {}, {"r": 0}), "start.bad_package"),
        (package(shaped, {"adapter": "prefix"}), "start.not_lora"),
        (rows, "start.not_lora"),
    ):
        page = bring(lead, data)
        assert page.status_code == 422 and page.context["refused"].code == code
    assert not StartingAdapter.objects.exists() and not Blob.objects.exists()


def package_about(study: Study, **changes: Any) -> bytes:
    import zipfile

    with zipfile.ZipFile(BytesIO(package(study, changes))) as made:
        return made.read(ABOUT)


def test_too_large_a_package_is_refused_before_it_is_read(
    lead: Client, shaped: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "MAX_PACKAGE_BYTES", 100)
    answer = bring(lead, package(shaped))
    assert answer.status_code == 422 and "It has more than 256 MiB." in text(answer)


@pytest.mark.parametrize(
    ("about", "config"),
    [
        ({"study": "one\0two"}, {}),
        ({"labels": ["x"] * 1001}, {}),
        ({}, {"layers_to_transform": [-1, 0]}),
    ],
)
def test_what_no_enclave_writes_of_a_release_is_refused(
    lead: Client, shaped: Study, about: dict[str, Any], config: dict[str, Any]
) -> None:
    assert bring(lead, package(shaped, about, config)).status_code == 422
    assert not StartingAdapter.objects.exists() and not Blob.objects.exists()


def test_the_same_package_twice_is_one_adapter(lead: Client, shaped: Study) -> None:
    for _ in range(2):
        assert bring(lead, package(shaped)).status_code == 302
    assert StartingAdapter.objects.count() == 1


def test_what_another_lead_has_brought_is_not_offered(lead: Client, shaped: Study, ludo: User) -> None:
    from_file(ludo, BytesIO(package(shaped)))
    assert SHA not in text(lead.get(at(shaped, "tuning")))
    page = lead.post(at(shaped, "tuning"), {**LORA, "start": SHA})
    assert page.status_code == 422 and "start" in page.context["form"].errors
    Study.objects.filter(pk=shaped.pk).update(settings={**shaped.settings, "start": SHA})
    with pytest.raises(Refusal, match=r"study\.start_unknown"):
        build_manifest(Study.objects.get(pk=shaped.pk))
