"""A backup of a coordinator in one file, and its way back into an empty place.

The file is a tar: `backup.json` (what it is of), the database, the keys of the state folder if a certificate
was given, and the sealed blobs. The database is taken first, as it stood at one moment, and the blobs after:
what it calls whole was on disk then. A blob that is removed in between, because its run ended, is not in the
backup, and its row says so after a restore.
"""

from __future__ import annotations

import json
import re
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

from contracts.refusal import Refusal
from enclave_jobs.backup import database, keys
from enclave_jobs.blobs import store as blobs
from enclave_jobs.blobs.models import Blob

FORMAT: Final = 1
_BLOB: Final = re.compile(r"blobs/([0-9a-f]{64})\Z")


def write(target: Path, certificate: Path | None) -> dict[str, int]:
    """Write the backup; how many blobs and keys are in it.

    Raises: `backup.exists` and `backup.bad_key`.
    """
    if target.exists():
        raise Refusal("backup.exists", file=target.name)
    to = None if certificate is None else keys.certificate_of(certificate)
    unfinished = target.with_name(f"{target.name}.part")
    unfinished.touch(mode=0o600)
    description = {"format": FORMAT, "engine": database.engine(), "steps": database.steps(),
            "at": timezone.now().isoformat(timespec="seconds"), "keys": to is not None}  # fmt: skip
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder, tarfile.open(unfinished, "w") as out:
            part = Path(folder) / "part"
            database.dump(part)
            whole = list(Blob.objects.filter(complete=True).order_by("pk").values_list("pk", flat=True))
            _add(out, folder, "backup.json", json.dumps(description).encode())
            out.add(part, "database")
            if to is not None:
                _add(out, folder, "keys.cms", keys.sealed(to))
            written = sum(_add_blob(out, sha256) for sha256 in whole)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return {"blobs": written, "keys": int(to is not None)}


def restore(
    source: Path, certificate: Path | None, key: Path | None, passphrase: bytes | None
) -> dict[str, Any]:
    """Bring a backup back; the number of blobs, those that are missing, and the keys' names.

    Raises: `backup.not_empty` before anything is written, `backup.unreadable`, `backup.other_engine`,
    `backup.other_version`, `backup.bad_key`, `blob.hash_mismatch`.
    """
    if not database.is_empty() or not blobs.is_empty():
        raise Refusal("backup.not_empty")
    restored, names = set[str](), list[str]()
    try:
        with tarfile.open(source) as archive, tempfile.TemporaryDirectory(dir=settings.STATE_DIR) as folder:
            description = json.loads(_read(archive, "backup.json"))
            if description["format"] != FORMAT:
                raise Refusal("backup.unreadable", file=source.name)
            if description["engine"] != database.engine():
                raise Refusal("backup.other_engine", found=description["engine"], expected=database.engine())
            database.require_known(description["steps"])
            if certificate is not None and key is not None and description["keys"]:
                envelope = _read(archive, "keys.cms")
                names = keys.restore(envelope, keys.certificate_of(certificate), key, passphrase)
            archive.extract("database", folder, filter="data")
            database.load(Path(folder) / "database", description["steps"])
            for member in archive:
                found = _BLOB.match(member.name)
                if found is not None and member.isfile():
                    archive.extract(member, folder, filter="data")
                    blobs.store(Path(folder) / member.name, found[1])
                    (Path(folder) / member.name).unlink()
                    restored.add(found[1])
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise Refusal("backup.unreadable", file=source.name) from error
    lacking = set(Blob.objects.filter(complete=True).values_list("pk", flat=True)) - restored
    Blob.objects.filter(pk__in=lacking).update(complete=False)
    return {"blobs": len(restored), "missing": len(lacking), "keys": names}


def _add(out: tarfile.TarFile, folder: str, name: str, content: bytes) -> None:
    path = Path(folder) / name
    path.write_bytes(content)
    out.add(path, name)


def _add_blob(out: tarfile.TarFile, sha256: str) -> bool:
    try:
        with blobs.opened(sha256) as file:
            out.addfile(out.gettarinfo(arcname=f"blobs/{sha256}", fileobj=file), file)
    except FileNotFoundError:
        return False
    return True


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()
