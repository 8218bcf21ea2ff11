"""What differs between the methods of training is asked of one object on each side, found under its name."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest

from contracts.manifest import Manifest, Spf, Split
from enclave_jobs import dispatch
from enclave_jobs.conductor import methods
from federation.celery import app
from federation.studies.methods import METHODS as PLANNED
from frontend.methods import METHODS as ON_PAGES
from manifest_summary.methods import METHODS as IN_WORDS
from site_agent.methods import METHODS as AT_A_SITE
from tests.jobs.cast import make_scene

NAMES = set(get_args(get_type_hints(Manifest)["method"]))
METHOD_2: dict[str, Any] = {"method": "method-2", "adapter": Spf(25, 25), "split": Split(1)}


SIDES = {"conductor": methods.METHODS, "site": AT_A_SITE, "studies": PLANNED, "summary": IN_WORDS,
         "pages": ON_PAGES}  # fmt: skip


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
def test_each_side_knows_each_method_that_a_manifest_may_name(side: dict[str, Any]) -> None:
    assert set(side) == NAMES


@pytest.mark.django_db
@pytest.mark.parametrize(("options", "queue"), [({}, "enclave"), (METHOD_2, "tail")])
def test_what_works_on_a_run_goes_to_the_workers_of_its_method(options: dict[str, Any], queue: str) -> None:
    scene = make_scene(**options)
    tasks = dict.fromkeys(dispatch.OF_A_RUN, scene.run.pk)
    found = {app.amqp.router.route({}, task, [about])["queue"].name for task, about in tasks.items()}
    assert found == {queue}


def test_work_on_base_models_and_short_tasks_go_elsewhere() -> None:
    def queue_of(task: str) -> str:
        return app.amqp.router.route({}, task, ["1"])["queue"].name  # type: ignore[no-any-return]

    assert (queue_of(dispatch.PROVE), queue_of("enclave_jobs.notify")) == ("models", "cpu")
