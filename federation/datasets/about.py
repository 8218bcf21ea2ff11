"""What a hospital says of a dataset in words, beside its card's numbers. It may be changed at any time: no
study goes by it, and nothing of it is signed."""

from __future__ import annotations

from typing import Final

from django.db import transaction

from contracts.refusal import Refusal
from federation.audit.services import record
from federation.datasets.models import Dataset
from federation.datasets.permissions import can_describe
from federation.people.models import User
from federation.people.permissions import require
from federation.plain import line, plain

LIMITS: Final = {"description": 2000, "period": 100, "licence": 200, "legal_basis": 400, "contact": 200}
"""Each field with its most characters, in the order in which they are read. A description may have lines."""


def describe(by: User, dataset: Dataset, said: dict[str, str]) -> None:
    """Put these words in the place of those before; fields that are empty are not kept. Texts are made plain.

    Raises: `auth.forbidden` or `dataset.words_too_long`.
    """
    require(can_describe(by, dataset))
    about = {}
    for name, limit in LIMITS.items():
        text = (plain if name == "description" else line)(said.get(name, ""))
        if len(text) > limit:
            raise Refusal("dataset.words_too_long", field=name, found=len(text), limit=limit)
        if text:
            about[name] = text
    with transaction.atomic():
        Dataset.objects.filter(pk=dataset.pk).update(about=about)
        record(by, "dataset.described", f"dataset:{dataset.pk}", fields=", ".join(about))
