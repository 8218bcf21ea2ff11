"""Two people who read the same run in two languages sign the same bytes: no word is signed, hashed or sent.

Else a hospital's approval would say something that another one's does not, and a changed translation would
change what was approved.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manifest_summary.summary import summary
from manifest_summary.sweep import sweep_facts, terms
from site_agent.checks import run_checks
from site_agent.weaknesses import Known, weaknesses
from tests.attacks.hospital import Hospital, attacked_hospital
from tests.attacks.test_sweeps_at_the_hospital import ASKED, ratios, root
from translations.spoken import speaking


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    with attacked_hospital(tmp_path) as made:
        yield made


def sent(hospital: Hospital, *arguments: str) -> dict[str, tuple[str, list[Any]]]:
    """By language: what the terminal said to the same command, and what went to the coordinator."""
    found = {}
    for language in ("en", "de"):
        before = len(hospital.server.requests)
        status, said = hospital.types("--language", language, *arguments)
        assert status == 0, said
        asked = hospital.server.requests[before:]
        found[language] = said, [(one.path, one.json) for one in asked if one.body]
    return found


def test_an_approval_is_the_same_bytes_in_german(hospital: Hospital) -> None:
    manifest = hospital.manifest()
    hospital.offer(manifest)
    known = ("--confirm-members", "--accept", "unbounded")
    found = sent(hospital, "approve", "--yes", "--hash", manifest.hash, *known)
    assert "Was ein Krankenhaus verlässt" in found["de"][0] and "Wessen Code es ist" in found["de"][0]
    assert "What leaves a hospital" in found["en"][0]
    assert found["de"][1] == found["en"][1] and "consent" not in str(found["de"][1])
    assert "signature" in str(found["de"][1])


def test_a_sweep_is_the_same_bytes_in_german(hospital: Hospital) -> None:
    manifests = ratios(hospital, 12.5, 25.0)
    hospital.offer(*manifests, sweep={**ASKED, "points": 2})
    known = ("--confirm-members", "--accept", "unbounded")
    found = sent(hospital, "approve", "--yes", "--hash", root(manifests), *known)
    assert "12,5 %" in found["de"][0] and "12.5 %" in found["en"][0]
    assert found["de"][1] == found["en"][1] and "signed" in str(found["de"][1])


def test_what_is_stated_of_a_sweep_is_in_no_language(hospital: Hospital) -> None:
    manifests = ratios(hospital, 12.5, 25.0)
    stated, reported = [], []
    for language in ("en", "de"):
        with speaking(language):
            stated.append(terms(manifests, 40, root(manifests), 1, 1e-5))
            reported.append(sweep_facts(stated[-1], manifests))
    assert stated[0] == stated[1] and reported[0] != reported[1]


def test_a_weakness_is_accepted_by_a_name_that_is_in_no_language(hospital: Hospital) -> None:
    manifest = hospital.manifest()
    found = []
    for language in ("en", "de"):
        with speaking(language):
            found.append(
                weaknesses(
                    manifest,
                    Known(root_sha256="0" * 64, own={}, trust_domains={}, statement=None, previous=None),
                )
            )
    assert [one.name for one in found[0]] == [one.name for one in found[1]] != []
    assert [one.text for one in found[0]] != [one.text for one in found[1]]


def test_a_manifests_hash_and_what_a_machine_reads_stay(hospital: Hospital) -> None:
    """The summary is German; the manifest, what JSON says, and what is told to the coordinator are not."""
    manifest, hashes, texts = hospital.manifest(), [], []
    for language in ("en", "de"):
        with speaking(language):
            hashes.append(manifest.hash)
            texts.append(summary(manifest))
    assert hashes[0] == hashes[1] and texts[0] != texts[1]
    said = {name: hospital.types("--language", name, "budget", "--json") for name in ("en", "de")}
    assert said["en"] == said["de"]
    rows = []
    for language in ("en", "de"):
        with speaking(language):
            rows.append([(check.name, check.hint) for check in run_checks(hospital.state, 0.0)])
    assert rows[0] == rows[1]
