"""A database that the tagged version has filled, under this one: `migrate` keeps all of it, or says which
runs would end. The whole upgrade, with processes and agents, is test_upgrade.py."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from enclave_jobs.runs.models import Round, Run
from tests.jobs.cast import Scene, make_scene
from tests.jobs.test_backup import SCENE, Place
from tests.support import tagged
from tests.support.beginnings import REPOSITORY

Rows = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A coordinator of the tagged version on SQLite, with a run in its course."""
    folder = tmp_path_factory.mktemp("tagged")
    place = Place(folder / "state", repository=tagged.checkout(folder / "old"))
    place.folder.mkdir()
    place.manage("migrate", "-v", "0")
    place.manage("shell", "-v", "0", "-c", SCENE)
    return place


def rows(place: Place) -> Rows:
    """Every row's fields, by model and key."""
    said = place.manage("dumpdata", "--exclude", "contenttypes", "--exclude", "auth", "--exclude", "sessions")
    return {(row["model"], str(row["pk"])): row["fields"] for row in json.loads(said)}


def test_migrating_keeps_every_row_as_it_is_and_the_run_can_go_on(lived: Place) -> None:
    before = rows(lived)
    lived.repository = REPOSITORY
    assert "Running migrations" in lived.manage("migrate")
    after = rows(lived)
    assert {"runs.run", "runs.round", "attestation.logentry"} <= {model for model, _ in before}
    assert before.keys() <= after.keys()
    changed = {
        (*key, name): (value, after[key].get(name))
        for key, fields in before.items()
        for name, value in fields.items()
        if after[key].get(name) != value
    }
    assert changed == {}


@pytest.fixture
def scene(db: None) -> Scene:
    return make_scene()


def as_of_another_version(scene: Scene) -> None:
    """Its manifest says what this version does not know."""
    said: dict[str, Any] = {**json.loads(scene.run.manifest), "of_another_version": 1}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    Run.objects.filter(pk=scene.run.pk).update(
        manifest=text, manifest_hash=hashlib.sha256(text.encode()).hexdigest()
    )


def test_what_this_version_would_end_stops_it_before_anything_is_changed(scene: Scene) -> None:
    call_command("migrate", verbosity=0)
    as_of_another_version(scene)
    with pytest.raises(CommandError, match=r"1 runs.*Nothing was changed.*upgrade\.runs_would_end"):
        call_command("migrate", verbosity=0)
    call_command("migrate", verbosity=0, end_runs=True)
    Run.objects.filter(pk=scene.run.pk).update(state="finished")
    call_command("migrate", verbosity=0)


def test_a_receipt_that_this_version_cannot_read_stops_it_too(scene: Scene) -> None:
    Round.objects.filter(run=scene.run).update(state="published", receipt={"of": "another version"})
    with pytest.raises(CommandError, match=r"upgrade\.runs_would_end"):
        call_command("migrate", verbosity=0)
