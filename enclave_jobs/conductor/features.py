"""The sites' features, as the coordinator has them (Method 2): an index of sealed shards for each site, and
the keys of these, wrapped for one server enclave after the other."""

from __future__ import annotations

import msgspec
from django.db import transaction

from contracts.refusal import Refusal
from contracts.sealed.shards import ShardIndex, check_index
from enclave_jobs.models import Blob, BlobKind, Features, Job, JobKind, Wrapped
from enclave_jobs.results import FeaturesResult
from enclave_jobs.supervisor import client
from federation.studies.models import Contribution, ContributionState, Round, Run
from federation.studies.transitions import apply


def join_kind(run: Run, site: str) -> JobKind:
    """A site whose shards are all here has only to wrap its keys."""
    row = Features.objects.filter(run=run, site_id=site, error_code="").first()
    if row is None:
        return JobKind.FEATURES
    here = Blob.objects.filter(sha256__in=row.shards, complete=True).count()
    return JobKind.REWRAP if here == len(row.shards) else JobKind.FEATURES


def take(job: Job, result: FeaturesResult) -> None:
    """Enter a site's index, and its keys for the present enclave.

    Refuses with `features.bad_index`, or `contribution.not_uploaded` where a file of it is not here.
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


def enrol(round: Round, site: str) -> None:
    """Give a site that has joined its place in a round: what it contributes is there."""
    row = Features.objects.get(run=round.run, site_id=site)
    contribution = Contribution.objects.create(round=round, site_id=site)
    apply(
        contribution,
        ContributionState.OFFERED,
        ContributionState.SUBMITTED,
        blob=row.sha256,
        bytes=row.bytes,
        samples=row.samples,
    )


def opened(run: Run, site: str) -> bool:
    """Have the present enclave open a site's shards; false while it is still at it.

    Refuses with `features.*` what is wrong with them, `features.not_loaded` where the site has not wrapped
    its keys for this enclave, and `blob.unknown`.
    """
    row = Features.objects.filter(run=run, site_id=site).first()
    wrapped = Wrapped.objects.filter(enclave=run.enclave_id, site_id=site).first()
    if row is None or wrapped is None:
        raise Refusal("features.not_loaded", site=site)
    answer = client.once(
        run.enclave_id,
        "features",
        {"site": site, "keys": wrapped.blob},
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
