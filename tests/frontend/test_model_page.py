"""The page of a base model says what was proven of it, what of its family runs where, and who tuned it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from django.urls import reverse

from contracts.architecture.table import ARCHITECTURES
from contracts.canonical import digest
from federation.people.models import User
from federation.studies.models import BaseModel
from tests.frontend.page_reader import signed_in, text
from tests.support.proofs import made_proof


@pytest.fixture
def model(world: dict[str, Any]) -> BaseModel:
    return BaseModel.objects.get(pk=world["model_id"])


def test_it_shows_the_runs_that_its_reader_may_see_and_no_others(
    model: BaseModel, world: dict[str, Any], people: dict[str, User]
) -> None:
    run, address = reverse("run", args=[world["run_id"]]), reverse("model", args=[model.pk])
    for who, sees in (("lena", True), ("olga", True), ("audrey", True), ("ludo", False)):
        assert (f'href="{run}"' in text(signed_in(people[who]), address)) is sees, who
    other = BaseModel.objects.create(
        source="embedded:other", task=model.task, name="Other", files=model.files, proof=model.proof
    )
    assert "None that you may see." in text(signed_in(people["olga"]), reverse("model", args=[other.pk]))


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_it_shows_its_familys_row_and_one_hash_of_all_files(kind: str, olga: User, db: None) -> None:
    proof = msgspec.to_builtins(made_proof()) | {"model_type": kind}
    model = BaseModel.objects.create(
        source="x", task=proof["task"], name="X", files=proof["files"], proof=proof
    )
    page, family = text(signed_in(olga), reverse("model", args=[model.pk])), ARCHITECTURES[kind]
    assert f"What of its family, {family.name}, runs where" in page and digest(proof["files"]) in page
    assert all(f">{name}<" in page for name in (*family.inside, *family.tables))
    assert all(f">{path}<" in page for path, *_rest in family.linears)
    assert ("it can write text" in page) is family.writes
    assert "Method 1, all of it in the TEE, with LoRA" in page


def test_a_family_that_no_row_lists_is_shown_without_one(olga: User, db: None) -> None:
    proof = msgspec.to_builtins(made_proof()) | {"model_type": "unheard-of"}
    model = BaseModel.objects.create(
        source="x", task=proof["task"], name="X", files=proof["files"], proof=proof
    )
    assert "runs where" not in text(signed_in(olga), reverse("model", args=[model.pk]))
