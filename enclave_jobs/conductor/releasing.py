"""Let a run's parameters out once its sites have approved it: start a server enclave from its sealed state,
attest it, have it release, and put its statement into the log before anybody gets the file."""

from __future__ import annotations

import logging

import msgspec
from django.db import transaction
from django.utils import timezone

from contracts.canonical import digest
from contracts.course import server_of
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.release_calls import RELEASE, ReleaseArguments
from contracts.release_check import check_release, parse_release
from contracts.releases import EXPORT
from enclave_jobs import dispatch
from enclave_jobs.blobs import store as blobs
from enclave_jobs.blobs.models import Blob, BlobKind
from enclave_jobs.conductor import attesting, methods, moving, restoring, starting
from enclave_jobs.conductor.restarting import is_loss, is_passing
from enclave_jobs.enclaves import services as enclaves
from enclave_jobs.enclaves.models import Enclave, EnclaveState
from enclave_jobs.releases import queries, services
from enclave_jobs.releases.models import Release, ReleaseState
from enclave_jobs.runs.queries import approvals_given
from enclave_jobs.supervisor import client
from federation.frozen import manifest_of

logger = logging.getLogger(__name__)

MAX_LOSSES = 3


def advance(run_id: str) -> None:
    """One step for a run's release, whatever it needs; it may run twice, and most find nothing to do."""
    release = Release.objects.select_related("run__study").filter(run_id=run_id).first()
    if release is None:
        return
    try:
        if release.state != ReleaseState.RELEASING or _release(release):
            enclaves.stop(run_id, releases=True)
    except Refusal as refusal:
        _judge(release, refusal)
    else:
        moving.went_well(release.run)


def remove_outdated() -> None:
    """Released files are kept for a while only; what was released, when and to whom stays on record."""
    for release in queries.outdated():
        blobs.remove(release.output)
        Blob.objects.filter(pk=release.output).update(complete=False)
        Release.objects.filter(pk=release.pk).update(removed_at=timezone.now())


def _release(release: Release) -> bool:
    """Whether it is done.

    Raises: what supervisor, verifier or enclave raises.
    """
    if release.losses > MAX_LOSSES:
        raise Refusal("run.enclave_unstable", times=release.losses)
    manifest = manifest_of(release.run)
    enclave = _enclave(release, manifest)
    if not client.start(enclave.pk, server_of(manifest), manifest.runtime):
        return False
    if enclave.state == EnclaveState.STARTING and not _ready(release, enclave, manifest):
        return False
    given = queries.release_approvals(release)
    method = methods.of(manifest)
    if not method.may_release(release.run, enclave, manifest, given):
        return False
    answer = client.once(
        enclave.pk,
        RELEASE,
        ReleaseArguments(release.receipt, given, "model"),
        run=release.run_id,
        key=f"{enclave.pk}/release/{digest(msgspec.to_builtins(given))[:32]}",
        outputs=("output",),
        model=method.release_files(manifest),
    )
    if answer is None:
        return False
    signed = parse_release(answer.release)
    check_release(signed, manifest, release.receipt, given, approvals_given(release.run))
    if signed.signing_key != enclave.signing_key or signed.released.output != answer.output.sha256:
        raise Refusal("release.mismatch", field="signing key")
    with transaction.atomic():
        if services.released(release, signed, given):
            kind = BlobKind.EXPORT if release.rule == EXPORT else BlobKind.RELEASE
            fields = {"bytes": signed.released.bytes, "kind": kind, "run": release.run, "complete": True}
            Blob.objects.update_or_create(sha256=signed.released.output, defaults=fields)
            dispatch.after_commit(dispatch.RELEASE, release.run_id)
    return True


def _ready(release: Release, enclave: Enclave, manifest: Manifest) -> bool:
    """Bind, restore the last published state, attest; the verdict is in the log before parameters leave."""
    if not starting.prepare(release.run, enclave, manifest):
        return False
    appraisal, evidence = attesting.attest(release.run, enclave, manifest)
    services.attested(release, msgspec.to_builtins(evidence))
    ready = enclaves.make_ready(enclave, appraisal, evidence)
    enclave.refresh_from_db()
    return ready


def _enclave(release: Release, manifest: Manifest) -> Enclave:
    """The enclave that releases; the same for everybody who asks."""
    home = enclaves.home_of(release.run, manifest.runtime, lambda: restoring.opens_anywhere(release.run))
    with transaction.atomic():
        Release.objects.select_for_update().get(pk=release.pk)
        found = enclaves.living(release.run_id, releases=True).first()
        if found is not None:
            return found
        return enclaves.name_next(release.run, server_of(manifest), home, releases=True)


def _judge(release: Release, refusal: Refusal) -> None:
    """A dead enclave is replaced, as is one whose machine stays away where another will do; a passing trouble
    is left to the sweep, anything else ends the try."""
    releasing = release.state == ReleaseState.RELEASING
    if is_loss(refusal) or (releasing and moving.leaves(release.run, refusal)):
        with transaction.atomic():
            Release.objects.filter(pk=release.pk).update(losses=release.losses + 1)
            enclaves.give_up(release.run_id, releases=True)
    elif is_passing(refusal):
        logger.info("the release of run %s waits: %s", release.run_id, refusal.code)
    else:
        services.fail(release, refusal.code)
        dispatch.send(dispatch.RELEASE, release.run_id)
