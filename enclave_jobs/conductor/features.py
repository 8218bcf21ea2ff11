"""The sites' features, as the coordinator has them (Method 2): an index of sealed shards for each site, and
the keys of these, wrapped for one server enclave after the other."""

from __future__ import annotations

import msgspec
from django.db import transaction

from contracts.jobs import FeaturesResult
from contracts.refusal import Refusal
from contracts.sealed.shards import ShardIndex, check_index
from contracts.split_server_calls import FEATURES, FeaturesArguments
from enclave_jobs.blobs.models import Blob, BlobKind, Features, Wrapped
from enclave_jobs.jobs.models import Job
from enclave_jobs.runs.models import Contribution, ContributionState, Round, Run
from enclave_jobs.supervisor import client
from federation.studies.events import entered


def brought(run: Run, sites: list[str]) -> set[str]:
    """Those of these sites whose shards are all here: they have only to wrap their keys."""
    rows = list(Features.objects.filter(run=run, site_id__in=sites, error_code=""))
    uploaded = Blob.objects.filter(
        owner_site_id__in=[row.site_id for row in rows], kind=BlobKind.SHARD, complete=True
    )
    here = set(uploaded.values_list("sha256", flat=True))
    return {row.site_id for row in rows if here.issuperset(row.shards)}


def take(job: Job, result: FeaturesResult) -> None:
    """Enter a site's index, and its keys for the present enclave.

    Raises: `features.bad_index`, or `contribution.not_uploaded` where a file of it is not here.
    """
    index = result.index
    check_index(index, job.site_id)
    _require_uploaded(job, index, result)
    with transaction.atomic():
        fields = {
            "index": msgspec.to_builtins(index),
            "sha256": index.hash,
            "bytes": index.bytes,
            "samples": index.examples("training"),
            "error_code": "",
        }
        Features.objects.update_or_create(run=job.run, site=job.site, defaults=fields)
        Wrapped.objects.update_or_create(
            enclave_id=job.enclave, site=job.site, defaults={"blob": result.keys.sha256}
        )


def enrol(round: Round, sites: list[str]) -> None:
    """Give sites that have joined their places in a round: what they contribute is there."""
    rows = Features.objects.filter(run=round.run, site_id__in=sites).order_by("site_id")
    contributions = [
        Contribution(
            round=round,
            site_id=row.site_id,
            state=ContributionState.SUBMITTED,
            blob=row.sha256,
            bytes=row.bytes,
            samples=row.samples,
        )
        for row in rows
    ]
    Contribution.objects.bulk_create(contributions)
    entered(contributions, ContributionState.OFFERED)


def opened(run: Run, site: str) -> bool:
    """Have the present enclave open a site's shards; false while it is still at it.

    Raises: `features.*` for what is wrong with them, `features.not_loaded` where the site has not wrapped
    its keys for this enclave, and `blob.unknown`.
    """
    row = Features.objects.filter(run=run, site_id=site).first()
    wrapped = Wrapped.objects.filter(enclave=run.enclave_id, site_id=site).first()
    if row is None or wrapped is None:
        raise Refusal("features.not_loaded", site=site)
    answer = client.once(
        run.enclave_id,
        FEATURES,
        FeaturesArguments(site, wrapped.blob),
        run=run.pk,
        key=f"{run.enclave_id}/features/{site}/{wrapped.blob[:32]}",
        inputs=(wrapped.blob, *row.shards),
    )
    return answer is not None


def refused(run: Run, site: str, code: str) -> None:
    """The enclave does not take these features: the site is out until it brings others."""
    Features.objects.filter(run=run, site_id=site).update(error_code=code)


def remove_shards(run_id: str, live: tuple[str, ...]) -> list[str]:
    """The shards of a run that is over, but for those that another live run of the same site still needs."""
    over = {name for row in Features.objects.filter(run_id=run_id) for name in row.shards}
    others = Features.objects.filter(run__state__in=live).exclude(run_id=run_id)
    needed = {name for row in others for name in row.shards}
    uploaded = Blob.objects.filter(run_id=run_id, kind=BlobKind.SHARD, complete=True)
    return sorted((over | set(uploaded.values_list("sha256", flat=True))) - needed)


def _require_uploaded(job: Job, index: ShardIndex, result: FeaturesResult) -> None:
    wanted = {shard.sha256: shard.bytes for shard in index.shards} | {result.keys.sha256: result.keys.bytes}
    here = dict(
        Blob.objects.filter(sha256__in=wanted, owner_site=job.site, complete=True).values_list(
            "sha256", "bytes"
        )
    )
    for sha256, size in wanted.items():
        if here.get(sha256) is None:
            raise Refusal("contribution.not_uploaded", sha256=sha256)
        if here[sha256] != size:
            raise Refusal("contribution.size_mismatch", found=here[sha256], claimed=size)
