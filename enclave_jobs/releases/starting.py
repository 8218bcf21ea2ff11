"""A released adapter for a later study: taken from a release of this coordinator, or brought as a file.

What a package says of itself is believed as far as a plan is checked by it; what counts is the SHA-256 of its
adapter, which hospitals sign and enclaves check.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
from django.db import transaction
from msgspec import Meta, Struct

from contracts.kinds import Task
from contracts.manifest import Name
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.sealed.package import ABOUT, ADAPTER, ADAPTER_CONFIG, unpack
from enclave_jobs.blobs import store as blobs
from enclave_jobs.blobs.models import Blob, BlobKind
from enclave_jobs.releases import services
from enclave_jobs.runs.models import Run
from federation.audit.services import record
from federation.people.models import User
from federation.studies import permissions
from federation.studies.models import StartingAdapter

MAX_PACKAGE_BYTES = 256 << 20
"""Read whole by a web process, which has no more memory to give."""


class _Model(Struct):
    source: Name
    files: Annotated[dict[Name, Hex32], Meta(min_length=1, max_length=200)]


class _About(Struct):
    """What of `release.json` decides (enclave/slicing/released.py)."""

    run: Name
    study: Name
    receipt: Hex32
    model: _Model
    task: Task
    labels: Annotated[list[Name], Meta(max_length=1000)]
    several_labels: bool
    adapter: str


class _Settings(Struct):
    """What of `adapter_config.json` decides."""

    r: Annotated[int, Meta(ge=1, le=512)]
    lora_alpha: Annotated[int, Meta(ge=1, le=1024)]
    use_rslora: bool
    target_modules: Annotated[list[Name], Meta(min_length=1, max_length=32)]
    layers_to_transform: Annotated[list[Annotated[int, Meta(ge=0)]], Meta(max_length=1000)] | None = None


def from_release(by: User, run: Run) -> StartingAdapter:
    """Of a run whose parameters were exported, for its study's lead.

    Raises: as `services.exported`, and `start.*`.
    """
    _release, file = services.exported(by, run)
    with file:
        return from_file(by, file)


def from_file(by: User, file: IO[bytes]) -> StartingAdapter:
    """Of a package as an enclave has released it. The same one again changes nothing.

    Raises: `auth.forbidden`, `start.bad_package`, `start.not_lora` or `blob.storage_full`.
    """
    if not permissions.can_create(by):
        raise Refusal("auth.forbidden")
    about, adapter = _read(file.read(MAX_PACKAGE_BYTES + 1))
    sha256 = hashlib.sha256(adapter).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / sha256).write_bytes(adapter)
        blobs.store(Path(folder) / sha256, sha256)
    with transaction.atomic():
        fields = {"bytes": len(adapter), "kind": BlobKind.START, "complete": True}
        blob, _made = Blob.objects.get_or_create(sha256=sha256, defaults=fields)
        if blob.kind != BlobKind.START:
            raise Refusal("start.bad_package", fault="a file of this hash is kept as something else")
        Blob.objects.filter(pk=sha256).update(complete=True)
        name = f"{about['study']} · {about['receipt'][:16]}"
        kept, made = StartingAdapter.objects.get_or_create(
            sha256=sha256, added_by=by, defaults={"name": name[:200], "about": about}
        )
        if made:
            record(by, "start.kept", f"adapter:{sha256[:16]}", run=about["run"], receipt=about["receipt"])
    return kept


def _read(data: bytes) -> tuple[dict[str, Any], bytes]:
    """What the package says, and its adapter."""
    if len(data) > MAX_PACKAGE_BYTES:
        raise Refusal("start.bad_package", fault=f"it has more than {MAX_PACKAGE_BYTES >> 20} MiB")
    try:
        files = unpack(data)
        if rb"\u0000" in files[ABOUT] + files.get(ADAPTER_CONFIG, b""):
            raise Refusal("start.bad_package", fault="a text of it holds the character NUL")
        about = msgspec.json.decode(files[ABOUT], type=_About)
        if about.adapter != "lora" or ADAPTER not in files or ADAPTER_CONFIG not in files:
            raise Refusal("start.not_lora", adapter=about.adapter[:32])
        settings = msgspec.json.decode(files[ADAPTER_CONFIG], type=_Settings)
    except Refusal as refusal:
        if refusal.code == "start.not_lora":
            raise
        raise Refusal("start.bad_package", fault=str(refusal.facts.get("fault", refusal.code))) from refusal
    except (msgspec.DecodeError, KeyError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("start.bad_package", fault="what it says of itself cannot be read") from error
    layers = settings.layers_to_transform or [0]
    return {
        "run": about.run,
        "study": about.study,
        "receipt": about.receipt,
        "source": about.model.source,
        "files": about.model.files,
        "task": about.task,
        "labels": about.labels,
        "several": about.several_labels,
        "rank": settings.r,
        "alpha": settings.lora_alpha,
        "rslora": settings.use_rslora,
        "targets": settings.target_modules,
        "first": min(layers),
    }, files[ADAPTER]
