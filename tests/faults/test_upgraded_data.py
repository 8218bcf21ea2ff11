"""A database that the tagged version has filled, under this one: `migrate` keeps all of it, or says which
runs would end. The whole upgrade, with processes and agents, is test_upgrade.py."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from contracts.canonical import canonical
from contracts.manifest import parse
from contracts.receipt_chain import parse_receipt
from contracts.receipts import receipt_hash
from enclave_jobs.runs.models import Round, Run
from tests.jobs.cast import Scene, make_scene
from tests.jobs.test_backup import Place
from tests.support import tagged
from tests.support.beginnings import REPOSITORY
from tests.support.engines import postgresql_server

TOLD = """
import io
from django.core.management import call_command
call_command("migrate", verbosity=0)
{then}
out = io.StringIO()
call_command("dumpdata", exclude=["contenttypes", "auth", "sessions"], stdout=out)
print("TOLD", out.getvalue())
"""
SCENE = "from tests.jobs.cast import make_scene; make_scene()"
CREATE = "from django.db import connection as c; c.cursor().execute('CREATE DATABASE coordinator_2')"
GOES_ON = """
from enclave_jobs.runs.models import Round, Run
last = max(Round.objects.values_list("pk", flat=True))
print(Round.objects.create(run=Run.objects.first(), number=99).pk > last)
"""
"""In words that the tagged version's own tests understand."""
Rows = dict[tuple[str, str], dict[str, Any]]


def migrated(place: Place, then: str = "") -> Rows:
    """Every row's fields, by model and key, after `migrate` and whatever comes then."""
    said = place.manage("shell", "-v", "0", "-c", TOLD.format(then=then))
    return {(row["model"], str(row["pk"])): row["fields"] for row in json.loads(said.split("TOLD ", 1)[1])}


def lost(before: Rows, after: Rows) -> dict[tuple[str, ...], Any]:
    """Fields that are not as they were."""
    assert before.keys() <= after.keys()
    return {
        (*key, name): (value, after[key].get(name))
        for key, fields in before.items()
        for name, value in fields.items()
        if after[key].get(name) != value
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_migrating_keeps_every_row_as_it_is_and_the_run_can_go_on(tmp_path: Path) -> None:
    place = Place(tmp_path / "state", repository=tagged.checkout(tmp_path / "old"))
    place.folder.mkdir()
    before = migrated(place, SCENE)
    assert {"runs.run", "runs.round", "attestation.logentry"} <= {model for model, _ in before}
    place.repository = REPOSITORY
    after = migrated(place)
    assert lost(before, after) == {}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_backup_of_the_tagged_version_is_brought_to_this_one(engine: str, tmp_path: Path) -> None:
    """As if it had been restored by the version that wrote it, and migrated then."""
    with postgresql_server() if engine == "postgresql" else nullcontext("") as database:
        place = Place(tmp_path / "state", database, tagged.checkout(tmp_path / "old"))
        place.folder.mkdir()
        before = migrated(place, SCENE)
        file = tmp_path / "backup.tar"
        place.manage("backup", str(file))
        if engine == "postgresql":
            place.manage("shell", "-v", "0", "-c", CREATE)
        there = Place(tmp_path / "restored", database and f"{database}_2")
        there.manage("restore", str(file))
        after = migrated(there)
        assert "True" in there.manage("shell", "-v", "0", "-c", GOES_ON), "keys go on after the last"
    assert lost(before, after) == {}


def test_what_the_tagged_version_has_frozen_is_read_under_the_same_hash() -> None:
    """A field that came later says, by being left out, what was the case before. Where that cannot be, runs
    of v0.1.0 end with the upgrade: this test goes, CHANGELOG.md tells it, and `migrate` stops for them."""
    text = canonical(json.loads(tagged.file("tests/sealing/vectors/manifest.json")))
    assert parse(text).hash == hashlib.sha256(text).hexdigest()
    kept = json.loads(tagged.file("tests/sealing/vectors/receipt.json"))
    assert receipt_hash(parse_receipt(kept["signed"]).receipt) == kept["hash"]


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
    call_command("migrate", verbosity=0, plan=True)  # changes nothing, so it says what it would do


@pytest.mark.parametrize("state", ["running", "paused"])
def test_runs_that_may_end_have_ended_before_the_processes_start_and_migrate_again(
    scene: Scene, state: str
) -> None:
    as_of_another_version(scene)
    Run.objects.filter(pk=scene.run.pk).update(state=state)
    call_command("migrate", verbosity=0, end_runs=True)
    run = Run.objects.select_related("study").get(pk=scene.run.pk)
    assert (run.state, run.error_code) == ("failed", "manifest.older_format")
    assert run.study.state == "draft"
    call_command("migrate", verbosity=0)


def test_a_receipt_that_this_version_cannot_read_stops_it_too(scene: Scene) -> None:
    Round.objects.filter(run=scene.run).update(state="published", receipt={"of": "another version"})
    with pytest.raises(CommandError, match=r"upgrade\.runs_would_end"):
        call_command("migrate", verbosity=0)
