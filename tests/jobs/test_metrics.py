"""/metrics: what it tells is so, names nobody, and is all that dashboard and alert rules ask for."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.test import Client
from django.utils import timezone

from contracts.canonical import canonical
from contracts.jobs import Joining
from enclave_jobs import dispatch, metrics
from enclave_jobs.jobs import leases
from enclave_jobs.jobs.models import JobKind
from enclave_jobs.queues import ENCLAVE
from enclave_jobs.runs.models import Round
from federation.attestation.models import CollateralSet, LogEntry
from federation.redis_client import client as redis_client
from tests.jobs.cast import Scene, make_scene
from tests.support import redis_server
from tests.support.engines import binary
from tests.support.installation import REPOSITORY

pytestmark = pytest.mark.django_db
SAMPLE = re.compile(r'(?P<name>[a-z_]+)(\{(?P<labels>([a-z]+="[^"\\]*",?)+)\})? (?P<value>-?[0-9.e+-]+)\Z')
NAMED = re.compile(r"fedslice_[a-z_]+")
MONITORING = REPOSITORY / "monitoring"


@pytest.fixture
def scene(tmp_path: Path, settings: Any) -> Scene:
    settings.SUPERVISOR_ADDRESS_FILE = tmp_path / "nobody"
    return make_scene()


def reported(text: str) -> dict[str, float]:
    """Samples by name and labels; every line must be of the format, and each family stand once."""
    found, families = {}, []
    for line in text.splitlines():
        if line.startswith("#"):
            if line.startswith("# TYPE "):
                families.append(line.split()[2])
            continue
        sample = SAMPLE.match(line)
        assert sample is not None, line
        assert sample["name"] == families[-1], "a sample stands under its own family"
        key = sample["name"] + (f"{{{sample['labels']}}}" if sample["labels"] else "")
        assert key not in found
        found[key] = float(sample["value"])
    assert len(families) == len(set(families))
    return found


def families() -> set[str]:
    return {line.split()[2] for line in metrics.text().splitlines() if line.startswith("# TYPE ")}


def test_runs_rounds_jobs_and_leases_are_counted(scene: Scene) -> None:
    Round.objects.update(opened_at=timezone.now() - timedelta(seconds=90))
    both = dict.fromkeys((scene.anna.site.pk, scene.berta.site.pk))
    asked = Joining(scene.enclave.pk, 1)
    leases.offer(scene.run, JobKind.TRAIN, scene.enclave.pk, round=scene.round, common=asked, sites=both)
    job = leases.lease(scene.anna.site)
    assert job is not None
    type(job).objects.filter(pk=job.pk).update(heartbeat_at=timezone.now() - timedelta(seconds=20))
    found = reported(metrics.text())
    assert found['fedslice_runs{state="running"}'] == 1
    assert found['fedslice_runs{state="failed"}'] == 0
    assert 89 < found['fedslice_round_phase_seconds{phase="collecting"}'] < 3600
    assert found["fedslice_waiting_sites"] == 2
    assert (found['fedslice_jobs{state="leased"}'], found['fedslice_jobs{state="waiting"}']) == (1, 1)
    assert 19 < found["fedslice_lease_age_seconds"] < 3600
    assert found["fedslice_log_height"] == LogEntry.objects.count() > 0
    assert found['fedslice_supervisor_up{supervisor="local"}'] == 0
    assert "fedslice_enclaves" in families()


def test_the_collateral_that_expires_first_is_told_in_days(scene: Scene) -> None:
    now = timezone.now()
    for number, days in enumerate((30, 9, 20)):
        CollateralSet.objects.create(
            sha256=f"{number:064}", root="intel", root_sha256="0" * 64, tee="sgx", fmspc=f"{number % 2:012}",
            ca="platform", data=canonical({}), parts=[], issued=now, expires=now + timedelta(days=days),
            tcb_evaluation=1, qe_evaluation=1, root_ca_crl_number=1, pck_crl_number=1, source="test",
        )  # fmt: skip
    # The third replaced the first, of the same kind of platform.
    assert reported(metrics.text())['fedslice_collateral_days_left{root="intel"}'] == pytest.approx(
        9, abs=0.1
    )


def test_queues_tell_their_length_and_the_age_of_their_oldest_message(scene: Scene, settings: Any) -> None:
    from celery import Celery

    with redis_server.running() as redis:
        settings.REDIS_URL = redis_server.url_of(redis)
        app = Celery("sender", broker=settings.REDIS_URL, set_as_current=False)
        for _ in range(2):
            app.send_task(dispatch.ADVANCE, args=["x"], queue=ENCLAVE)
        oldest = json.loads(redis.lindex(ENCLAVE, -1))  # type: ignore[arg-type]
        oldest["headers"][dispatch.SENT_AT] -= 70
        redis.lset(ENCLAVE, -1, json.dumps(oldest))
        found = reported(metrics.text())
        app.close()
    assert found["fedslice_redis_up"] == 1
    assert found['fedslice_queue_length{queue="enclave"}'] == 2
    assert 69 < found['fedslice_queue_age_seconds{queue="enclave"}'] < 3600
    assert found['fedslice_queue_age_seconds{queue="cpu"}'] == 0


def test_a_redis_that_is_away_is_told_and_hides_nothing_else(scene: Scene, settings: Any) -> None:
    settings.REDIS_URL = f"unix://{settings.STATE_DIR}/no-such-redis.sock"
    found = reported(metrics.text())
    assert found["fedslice_redis_up"] == 0
    assert found['fedslice_runs{state="running"}'] == 1


def test_no_hospital_and_no_run_is_named(scene: Scene) -> None:
    text = metrics.text()
    for secret in (scene.anna.site.pk, scene.anna.site.name, scene.run.pk, scene.run.study.name):
        assert secret not in text


def test_only_who_shows_the_token_reads_them(scene: Scene, client: Client) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Basic {settings.METRICS_TOKEN}"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {settings.METRICS_TOKEN[:-1]}"},
        {"Authorization": "Bearer \N{SNOWMAN}".encode().decode("latin-1")},
    ):
        refused = client.get("/metrics", headers=headers)
        assert (refused.status_code, refused["WWW-Authenticate"]) == (401, "Bearer")
        assert b"fedslice_" not in refused.content
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {settings.METRICS_TOKEN}"})
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "fedslice_runs" in answer.content.decode()


def test_every_metric_that_dashboard_and_alerts_name_exists(scene: Scene) -> None:
    there = families()
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
    panels = json.loads((MONITORING / "grafana.json").read_text())["panels"]
    asked = [rule["expr"] for rule in rules]
    asked += [target["expr"] for panel in panels for target in panel["targets"]]
    for expression in asked:
        names = NAMED.findall(expression)
        assert names and set(names) <= there, expression
    shown = {name for expression in asked for name in NAMED.findall(expression)}
    assert there == shown, "and each is shown or watched"
    assert all(rule["annotations"]["description"] and rule["for"] for rule in rules)
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize(
    "words",
    [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")],
    ids=lambda words: words[0],
)
def test_prometheus_own_tool_takes_the_rules_and_each_fires_for_what_it_is_there_for(
    words: tuple[str, ...],
) -> None:
    done = subprocess.run([binary("promtool"), *words], cwd=MONITORING, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text())["tests"]
    fired = {
        case["alert_rule_test"][0]["alertname"] for case in tried if case["alert_rule_test"][0]["exp_alerts"]
    }
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
    assert fired == {rule["alert"] for rule in rules}


def test_prometheus_own_tool_takes_what_metrics_tells(scene: Scene) -> None:
    checked = subprocess.run(
        [binary("promtool"), "check", "metrics"], input=metrics.text(), capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_web_process_lives_without_anything_and_is_ready_with_its_database(
    scene: Scene, client: Client, settings: Any
) -> None:
    settings.REDIS_URL = f"unix://{settings.STATE_DIR}/no-such-redis.sock"
    assert client.get("/livez").status_code == 200
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"database": True, "migrated": True, "redis": False})
    assert redis_client() is not None
