"""What is done in each step is done once: a manifest is parsed, an entry of the log made canonical."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from contracts.refusal import Refusal
from federation import frozen as frozen_manifests
from federation.attestation import log
from federation.studies.models import Study
from transparency_log import entry as entries

pytestmark = pytest.mark.django_db


def counting(module: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a function of a module is called with from now on; it does what it did."""
    calls: list[Any] = []
    real: Callable[[Any], Any] = getattr(module, name)

    def counted(value: Any) -> Any:
        calls.append(value)
        return real(value)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_a_manifest_is_parsed_once_however_often_and_through_whatever_row_it_is_asked_for(
    frozen: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen_manifests.read_manifest.cache_clear()
    parsed = counting(frozen_manifests, "parse", monkeypatch)
    found = [frozen_manifests.manifest_of(Study.objects.get(pk=frozen.pk)) for _ in range(5)]
    assert len(parsed) == 1 and all(one is found[0] for one in found)


def test_but_one_that_is_not_what_was_frozen_is_refused_each_time(frozen: Study) -> None:
    assert frozen_manifests.manifest_of(frozen)
    frozen.manifest = (frozen.manifest or "").replace('"run":"', '"run":"x', 1)
    for _ in range(2):
        with pytest.raises(Refusal) as refusal:
            frozen_manifests.manifest_of(frozen)
        assert refusal.value.code == "manifest.hash_mismatch"


def test_an_append_makes_its_entry_canonical_once_and_it_is_what_every_reader_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = counting(entries, "canonical", monkeypatch)
    row = log.append("test.entry", {"n": 1.0, "of": ("a", None), "z": {"é": 2**53 - 1, "a": -0.0}})
    assert len(made) == 1
    read = entries.parse_entry(row.data.encode())
    assert msgspec.to_builtins(read.body) == {"n": 1, "of": ["a", None], "z": {"a": 0, "é": 2**53 - 1}}


@pytest.mark.parametrize("number", [1e16, 2.0**53, -1.5e20])
def test_a_number_that_no_reader_would_take_is_not_appended(number: float) -> None:
    """Its canonical form is an integer beyond 2^53 - 1: such a leaf could be read by nobody, ever."""
    with pytest.raises(Refusal) as refusal:
        log.append("test.entry", {"deep": [{"n": number}]})
    assert refusal.value.code == "log.invalid_entry"
