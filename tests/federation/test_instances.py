"""One key is one process: what the coordinator makes of the places that agents name."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

from django.utils import timezone

from contracts.instance import instance_of
from federation.audit.models import AuditEntry
from federation.sites.models import AgentInstance
from tests.federation.cast import Hospital
from tests.support.instances import HERE

COPY = HERE._replace(place="3" * 32, machine="anna-2")
RESTARTED = HERE._replace(boot="4" * 32)


def asks(anna: Hospital, instance: object, method: str = "GET", path: str = "approvals") -> str:
    """The code of the answer, "" if it was granted."""
    body = b"" if method == "GET" else b"{}"
    token = anna.token(method, path, body, **instance._asdict())  # type: ignore[attr-defined]
    answer = anna.call(method, path, None if method == "GET" else {}, token=token)
    return "" if answer.status_code < 400 else answer.json()["code"]


def silent(anna: Hospital, seconds: int) -> None:
    AgentInstance.objects.update(heard_at=timezone.now() - timedelta(seconds=seconds))


def test_the_first_machine_is_the_sites_and_a_copy_is_refused_however_long_it_waits(anna: Hospital) -> None:
    assert asks(anna, HERE) == ""
    assert asks(anna, COPY) == asks(anna, COPY) == "instance.elsewhere"
    silent(anna, 86400)
    assert asks(anna, COPY) == "instance.elsewhere"
    assert asks(anna, HERE) == ""
    held = AgentInstance.objects.get()
    assert (held.machine, held.other_machine, held.other_tries) == ("anna-1", "anna-2", 3)
    assert AuditEntry.objects.filter(action="site.second_machine").count() == 1


def test_a_machine_that_was_restarted_goes_on_by_itself_and_a_clone_waits(anna: Hospital) -> None:
    assert asks(anna, HERE) == ""
    assert asks(anna, RESTARTED) == "instance.alive", "it may be a clone, and the first one is at work"
    silent(anna, 61)
    assert asks(anna, RESTARTED) == ""
    assert asks(anna, HERE) == "instance.alive"


def test_a_move_is_explicit_waits_for_silence_and_shuts_the_old_machine_out(anna: Hospital) -> None:
    assert asks(anna, HERE) == ""
    assert asks(anna, COPY, "POST", "machine") == "instance.alive"
    silent(anna, 61)
    assert asks(anna, COPY, "POST", "machine") == ""
    assert asks(anna, COPY) == ""
    assert asks(anna, HERE) == "instance.moved"
    assert AgentInstance.objects.get().former_place == HERE.place
    assert AuditEntry.objects.filter(action="site.moved").count() == 1
    assert asks(anna, COPY, "POST", "machine") == "", "twice is the same as once"


def test_a_machine_asks_which_one_is_the_sites_and_changes_nothing_by_that(anna: Hospital) -> None:
    assert asks(anna, COPY, path="machine") == ""
    assert not AgentInstance.objects.exists()
    assert asks(anna, HERE) == ""
    answer = anna.call("GET", "machine", token=anna.token("GET", "machine", **COPY._asdict())).json()
    assert (answer["here"], answer["machine"]) == (False, "anna-1")


def test_a_copy_of_the_folder_is_another_place_and_the_folder_itself_is_not(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    shutil.copytree(tmp_path / "site", tmp_path / "copy")
    before = instance_of(tmp_path / "site", "m")
    (tmp_path / "site").rename(tmp_path / "renamed")
    assert instance_of(tmp_path / "renamed", "m") == before
    assert instance_of(tmp_path / "copy", "m").place != before.place
    assert instance_of(tmp_path / "copy", "Zürich\n" * 20).machine.isascii()
