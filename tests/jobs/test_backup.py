"""A backup comes back into an empty place, of either database; a run in mid-course goes on there."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from contracts.kept_keys import signing_key
from contracts.refusal import Refusal
from site_agent.transport import Coordinator
from site_agent.witness import LogWitness
from tests.jobs.conftest import NAMES, Consortium
from tests.jobs.test_line import start_web
from tests.support import beginnings
from tests.support.engines import postgresql_server
from tests.support.installation import REPOSITORY, free_port
from tests.support.instances import HERE

SCENE = """
from pathlib import Path
from django.conf import settings
from enclave_jobs.blobs import store as blobs
from enclave_jobs.blobs.models import Blob
from tests.jobs.cast import make_scene
scene = make_scene()
for number, content in enumerate((b"one", b"two")):
    import hashlib
    name = hashlib.sha256(content).hexdigest()
    blobs.path_of(name).parent.mkdir(parents=True, exist_ok=True)
    blobs.path_of(name).write_bytes(content)
    Blob.objects.create(sha256=name, bytes=3, run=scene.run, complete=True)
gone = Blob.objects.create(sha256="0" * 64, bytes=1, run=scene.run, complete=True)
for name in ("log-key.json", "supervisor/platform/sealing-secret"):
    (settings.STATE_DIR / name).parent.mkdir(parents=True, exist_ok=True)
    (settings.STATE_DIR / name).write_text("secret " + name)
"""
LOOK = """
from enclave_jobs.blobs.models import Blob
from federation.attestation.models import LogEntry
from enclave_jobs.runs.models import Contribution, Round, Run
print(Run.objects.get().manifest_hash, Contribution.objects.count(), LogEntry.objects.count(),
      sorted(Blob.objects.filter(complete=True).values_list("sha256", flat=True)),
      Round.objects.create(run=Run.objects.get(), number=9).pk)
"""
BLOBS = 2


@dataclass
class Place:
    """A state folder with its database. `repository` is the code of the version that it is used with."""

    folder: Path
    database: str = ""
    repository: Path = REPOSITORY

    def manage(self, *words: str, code: int = 0) -> str:
        environment = {**os.environ, "FEDSLICE_STATE": str(self.folder)}
        if self.database:
            environment["FEDSLICE_DATABASE"] = self.database
        done = subprocess.run(
            [sys.executable, "manage.py", *words], cwd=self.repository, env=environment, capture_output=True,
            text=True, stdin=subprocess.DEVNULL, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def look(self) -> str:
        return self.manage("shell", "-v", "0", "-c", LOOK).strip().splitlines()[-1]


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate and its key, made as docs/operations.md says."""
    folder = tmp_path_factory.mktemp("operator")
    certificate, key = folder / "backup.pem", folder / "backup-key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-days", "3650", "-subj", "/CN=backup",
         "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True,
    )  # fmt: skip
    return str(certificate), str(key)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, operator: tuple[str, str]) -> tuple[Place, Path]:
    """A coordinator on SQLite that has lived, and its backup with keys."""
    folder = tmp_path_factory.mktemp("lived")
    place, file = Place(folder / "state"), folder / "backup.tar"
    place.folder.mkdir()
    shutil.copy(beginnings.database(str(beginnings.tiny_model())), place.folder / beginnings.DATABASE)
    place.manage("shell", "-v", "0", "-c", SCENE)
    assert f"{BLOBS} sealed files" in place.manage("backup", str(file), "--keys-to", operator[0])
    return place, file


def test_everything_comes_back_into_an_empty_place(
    lived: tuple[Place, Path], operator: tuple[str, str], tmp_path: Path
) -> None:
    place, file = lived
    there = Place(tmp_path / "state")
    said = there.manage("restore", str(file), "--keys", *operator)
    assert "1 file was removed" in said and "supervisor/platform" in said
    for name in ("secret-key", "log-key.json", "supervisor/platform/sealing-secret"):
        restored = there.folder / name
        assert restored.read_bytes() == (place.folder / name).read_bytes()
        assert restored.stat().st_mode & 0o077 == 0
    seen = there.look()
    assert seen.count("'") == 2 * BLOBS and seen.endswith(" 2")
    assert "[backup.not_empty]" in there.manage("restore", str(file), code=1)
    assert "[backup.exists]" in place.manage("backup", str(file), code=1)


def test_keys_are_for_their_operator_alone(
    lived: tuple[Place, Path], operator: tuple[str, str], tmp_path: Path
) -> None:
    _, file = lived
    with tarfile.open(file) as archive:
        sealed = archive.extractfile("keys.cms")
        assert sealed is not None and b"secret log-key" not in sealed.read()
    assert b"secret log-key" not in file.read_bytes()
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(other), "3072"], check=True, capture_output=True)
    there = Place(tmp_path / "state")
    said = there.manage("restore", str(file), "--keys", operator[0], str(other), code=1)
    assert "[backup.bad_key]" in said
    # Nothing was written, and the right key still restores.
    assert not (there.folder / "log-key.json").exists()
    there.manage("restore", str(file), "--keys", *operator)


def test_what_is_no_backup_or_was_changed_is_refused(lived: tuple[Place, Path], tmp_path: Path) -> None:
    _, file = lived
    other = tmp_path / "other.tar"
    other.write_bytes(b"no tar")
    assert "[backup.unreadable]" in Place(tmp_path / "a").manage("restore", str(other), code=1)
    with tarfile.open(file) as source, tarfile.open(other, "w") as changed:
        for member in source:
            content = source.extractfile(member)
            assert content is not None
            data = b"other" if member.name.startswith("blobs/") else content.read()
            member.size = len(data)
            changed.addfile(member, io.BytesIO(data))
    assert "[blob.hash_mismatch]" in Place(tmp_path / "b").manage("restore", str(other), code=1)


def test_a_backup_of_a_newer_version_is_refused_before_anything_is_written(
    lived: tuple[Place, Path], operator: tuple[str, str], tmp_path: Path
) -> None:
    _, file = lived
    newer = tmp_path / "newer.tar"
    with tarfile.open(file) as source, tarfile.open(newer, "w") as changed:
        for member in source:
            content = source.extractfile(member)
            assert content is not None
            data = content.read()
            if member.name == "backup.json":
                described = json.loads(data)
                data = json.dumps(described | {"steps": [*described["steps"], "runs.9999_later"]}).encode()
                member.size = len(data)
            changed.addfile(member, io.BytesIO(data))
    there = Place(tmp_path / "state")
    assert "[backup.other_version]" in there.manage("restore", str(newer), "--keys", *operator, code=1)
    assert not (there.folder / "log-key.json").exists()
    there.manage("restore", str(file), "--keys", *operator)


@pytest.fixture
def postgres() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.mark.long
def test_postgresql_comes_back_with_its_sequences(postgres: str, tmp_path: Path) -> None:
    place, there = Place(tmp_path / "a", postgres), Place(tmp_path / "b", f"{postgres}_2")
    place.manage("migrate", "-v", "0")
    place.manage("shell", "-v", "0", "-c", SCENE)
    create = "from django.db import connection as c; c.cursor().execute('CREATE DATABASE coordinator_2')"
    place.manage("shell", "-v", "0", "-c", create)
    file = tmp_path / "backup.tar"
    place.manage("backup", str(file))
    assert "No keys" in there.manage("restore", str(file))
    assert there.look() == place.look().replace(f", '{'0' * 64}'", "").replace(f"'{'0' * 64}', ", "")
    assert "[backup.other_engine]" in Place(tmp_path / "c").manage("restore", str(file), code=1)


@pytest.mark.long
@pytest.mark.slow
def test_a_run_in_mid_course_goes_on_where_it_was_restored(
    consortium: Consortium, operator: tuple[str, str], tmp_path: Path
) -> None:
    run = consortium.launch(NAMES[:2], rounds=3)
    # The hospitals stay as they are, with their client slices, but do not get on while the backup is made.
    held = ["leave"]
    for name in NAMES[:2]:
        consortium.hospitals[name].hooks["train"] = lambda job: held[0] if job["round"] == 2 else None
    consortium.start()
    consortium.until(run, 2, "collecting")
    first, file = consortium.installation.folder, tmp_path / "backup.tar"
    consortium.installation.manage("backup", str(file), "--keys-to", operator[0])
    consortium.installation.stop()
    consortium.installation.folder = tmp_path / "elsewhere"
    try:
        Place(consortium.installation.folder).manage("restore", str(file), "--keys", *operator)
        held[0] = ""
        consortium.installation.start()
        ended = consortium.finished(run, 300)
        assert (ended["state"], ended["error_code"]) == ("finished", "")
        assert ended["summary"]["rounds"] == 3 and ended["summary"]["enclave_restarts"] >= 1
    finally:
        consortium.stop()
        consortium.installation.stop()
        consortium.installation.folder = first


LOGGED = """
from contracts.kept_keys import signing_secret
from federation.attestation import log
from tests.jobs.cast import make_scene
scene = make_scene()
print(scene.anna.site.pk, signing_secret(scene.anna.key).hex(), log.key_fingerprint())
"""
LONGER = """
from federation.attestation import log, gate
for number in range({count}):
    named = dict(manifest="0" * 64, run="run", round=number + 1, output="1" * 64)
    gate.log_parameters(**named, recipients=[], sites=[])
print(log.size())
"""


@pytest.mark.slow
def test_a_hospital_that_saw_a_longer_log_than_the_restored_one_stops_with_its_proof(
    operator: tuple[str, str], tmp_path: Path
) -> None:
    """What it relied on is not there any more, and however the log grows, it is another. Enrolled again, with
    an empty folder for the log, it goes on."""
    before, there, file = Place(tmp_path / "before"), Place(tmp_path / "there"), tmp_path / "backup.tar"
    before.manage("migrate", "-v", "0")
    site, key, pinned = before.manage("shell", "-v", "0", "-c", LOGGED).split()[-3:]
    before.manage("backup", str(file), "--keys-to", operator[0])
    before.manage("shell", "-v", "0", "-c", LONGER.format(count=2))
    witness = LogWitness(tmp_path / "witness", pinned)
    with served(before, site, key) as coordinator:
        seen = witness.look(coordinator).size
    there.manage("restore", str(file), "--keys", *operator)
    with served(there, site, key) as coordinator:
        with pytest.raises(Refusal) as refused:
            witness.look(coordinator)
        assert refused.value.code == "log.fork" and "log.went_back" in str(refused.value.facts["fault"])
        proof = json.loads((tmp_path / "witness" / "fork-1.json").read_text())
        assert (proof["code"], proof["seen_key"]) == ("log.went_back", proof["shown_key"])
        there.manage("shell", "-v", "0", "-c", LONGER.format(count=seen + 1))
        with pytest.raises(Refusal) as again:
            witness.look(coordinator)
        assert again.value.code == "log.fork"
        (tmp_path / "witness" / "fork-1.json").unlink()
        with pytest.raises(Refusal) as other:
            witness.look(coordinator)
        assert "log.not_consistent" in str(other.value.facts["fault"]), "longer, and another"
        assert LogWitness(tmp_path / "again", pinned).look(coordinator).size > seen


@contextmanager
def served(place: Place, site: str, key: str) -> Iterator[Coordinator]:
    """The agents' API of this place, as this site reaches it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "FEDSLICE_STATE": str(place.folder), "FEDSLICE_URL": url}
    process = start_web(environment, port, place.folder / "web.log")
    try:
        who = (site, signing_key(bytes.fromhex(key)), HERE)
        yield Coordinator(url, who, insecure_http=True)
    finally:
        process.kill()
        process.wait()
