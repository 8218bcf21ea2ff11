"""Run inside an installation (`manage.py shell`): a lead, hospitals with their keys, and a launched study."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.conf import settings

from attestation.development import create_root, issue_platform
from contracts.kept_keys import signing_key
from contracts.kinds import LABELLED
from enclave_jobs.runs import services as runs
from federation.people.models import Role
from federation.sites.models import Site
from federation.studies import services
from federation.studies.plan import Plan
from tests.federation.cast import Hospital, make_dataset, make_person
from tests.support.keys import approval_key
from tests.support.proofs import freeze as freeze_tried


def hospitals(keys: dict[str, str], requests: dict[str, str]) -> dict[str, str]:
    """Active sites with these keys; the development chain for each one's platform request."""
    create_root(settings.DEVELOPMENT_ROOT_DIR)
    chains = {}
    for name, secret in keys.items():
        key = signing_key(bytes.fromhex(secret))
        keys = {"public_key": key.public, "approval_key": approval_key(key).public, "development_key": True}
        Site.objects.create(id=name, name=name, state="active", runtime="development", **keys)
        chains[name] = issue_platform(settings.DEVELOPMENT_ROOT_DIR, requests[name]).decode()
    make_person("lena@university.example", Role.LEAD)
    return chains


def launch(keys: dict[str, str], plan: dict[str, Any], rows: dict[str, dict[str, Any]]) -> str:
    """A study over a dataset of each site, frozen, signed by all, launched; the run's id. `rows` are each
    site's number of rows and their digest."""
    from federation.people.models import User

    lena = User.objects.get(email="lena@university.example")
    sites = list(Site.objects.filter(pk__in=keys))
    datasets = [make_dataset(site, f"notes {site.datasets.count() + 1}") for site in sites]
    for dataset in datasets:
        reported = rows[dataset.site_id]
        labels = {"routine": 30, "urgent": 30} if reported["kind"] in LABELLED else {}
        dataset.card = {**dataset.card, "labels": labels, "kind": reported["kind"]}
        dataset.rows, dataset.digest = reported["rows"], reported["digest"]
        dataset.save()
    study = services.create_study(lena, name="Triage", purpose="Test", plan=Plan(**plan), datasets=datasets)
    freeze_tried(lena, study)
    study.refresh_from_db()
    for site in sites:
        hospital = Hospital(site, signing_key(bytes.fromhex(keys[site.pk])))
        services.sign_approval(hospital.as_agent(), study.manifest_hash, hospital.sign(study.manifest_hash))
    study.refresh_from_db()
    return runs.launch(lena, study).pk


def serve(run: str, keys: dict[str, str]) -> str:
    """The lead asks for serving, and these hospitals sign for it."""
    from contracts.manifest import parse
    from contracts.releases import SERVE
    from enclave_jobs.runs.models import Run
    from enclave_jobs.serving.services import approve, start
    from federation.people.models import User
    from tests.support.approvals import release_approval

    row = Run.objects.get(pk=run)
    manifest = parse(row.manifest.encode())
    service = start(User.objects.get(email="lena@university.example"), row)
    for site in manifest.sites[: manifest.release.approvals]:
        hospital = Hospital(Site.objects.get(pk=site.id), signing_key(bytes.fromhex(keys[site.id])))
        given = release_approval(manifest, service.receipt, site.id, hospital.key, rule=SERVE)
        approve(hospital.as_agent(), row, service.receipt, given)
    service.refresh_from_db()
    return service.state


def revoke(run: str, site: str, word: str) -> str:
    """The lead revokes a hospital, or allows it again."""
    from enclave_jobs.runs.models import Run
    from enclave_jobs.serving import services as serving
    from federation.people.models import User

    lena = User.objects.get(email="lena@university.example")
    {"revoke": serving.revoke, "allow": serving.allow}[word](
        lena, Run.objects.get(pk=run), Site.objects.get(pk=site)
    )
    return word


def release(run: str) -> str:
    """The lead asks for the release."""
    from enclave_jobs.releases import services as releases
    from enclave_jobs.runs.models import Run
    from federation.people.models import User

    lena = User.objects.get(email="lena@university.example")
    return releases.ask(lena, Run.objects.get(pk=run)).state


def release_by_another(run: str) -> str:
    """Another lead asks for it: the refusal's code."""
    from contracts.refusal import Refusal
    from enclave_jobs.releases import services as releases
    from enclave_jobs.runs.models import Run

    try:
        releases.ask(make_person("ludo@university.example", Role.LEAD), Run.objects.get(pk=run))
    except Refusal as refusal:
        return refusal.code
    return ""


def download(run: str) -> dict[str, str]:
    """The lead fetches an export: its content in hex, or the refusal's code."""
    from contracts.refusal import Refusal
    from enclave_jobs.releases import services as releases
    from enclave_jobs.runs.models import Run
    from federation.people.models import User

    lena = User.objects.get(email="lena@university.example")
    try:
        _, file = releases.exported(lena, Run.objects.get(pk=run))
    except Refusal as refusal:
        return {"code": refusal.code}
    return {"content": file.read().hex()}


def outdate(run: str) -> str:
    """Let the time pass for which a released file is kept."""
    from datetime import timedelta

    from django.utils import timezone

    from enclave_jobs.conductor import sweeping
    from enclave_jobs.releases.models import Release

    long_ago = timezone.now() - timedelta(days=settings.RELEASE_DAYS + 1)
    Release.objects.filter(run=run).update(released_at=long_ago)
    sweeping.upkeep()
    return run


def main(asked: dict[str, Any]) -> None:
    verbs = {"hospitals": hospitals, "launch": launch, "serve": serve, "revoke": revoke}
    verbs |= {"release": release, "release_by_another": release_by_another}
    verbs |= {"download": download, "outdate": outdate}
    verb = verbs[asked.pop("verb")]
    sys.stdout.write("\n" + json.dumps(verb(**asked)) + "\n")
