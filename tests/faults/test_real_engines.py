"""The settings of docker-compose.yml against Debian's own PostgreSQL and Redis, started natively."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import story
from tests.support.installation import Installation, free_port, wait_for

pytestmark = [pytest.mark.timeout(900)]
LABELS = ("fracture", "fever", "rash")


def _binary(name: str) -> str:
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    found = shutil.which(name) or (str(candidates[0]) if candidates else None)
    if found is None:
        pytest.fail(f"{name} is missing: run .ci/install-debian.sh")
    return found


def _as_postgres() -> dict[str, object]:
    """PostgreSQL refuses to run as root; Debian's package made a user for it."""
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of its own on a free port; yields the URL of an empty database."""
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/fedslice-pg-XXXXXX"], text=True).strip())
    identity = _as_postgres()
    if identity:
        shutil.chown(folder, "postgres", "postgres")
    port, data = free_port(), folder / "data"
    (folder / "password").write_text("s3cret/with:signs")
    common: dict[str, object] = {"cwd": "/tmp", "stdout": subprocess.DEVNULL, **identity}
    subprocess.run(
        [_binary("initdb"), "--pgdata", str(data), "--username", "fedslice", "--auth", "scram-sha-256",
         "--pwfile", str(folder / "password"), "--no-sync"], check=True, **common,  # type: ignore[call-overload]
    )  # fmt: skip
    server = subprocess.Popen(
        [_binary("postgres"), "-D", str(data), "-p", str(port), "-k", str(folder), "-c",
         "listen_addresses=127.0.0.1"], stderr=subprocess.DEVNULL, **common,  # type: ignore[call-overload]
    )  # fmt: skip
    environment = {**os.environ, "PGPASSWORD": "s3cret/with:signs"}
    psql = [_binary("psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "fedslice", "-d", "postgres", "-c"]

    def ready() -> bool:
        done = subprocess.run([*psql, "SELECT 1"], env=environment, capture_output=True)
        return done.returncode == 0

    try:
        wait_for(ready, 60, "PostgreSQL answers")
        subprocess.run(
            [*psql, "CREATE DATABASE coordinator"], env=environment, check=True, capture_output=True
        )
        yield f"postgresql://fedslice:s3cret%2Fwith%3Asigns@127.0.0.1:{port}/coordinator"
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    """Debian's redis-server with a password, on a free port."""
    port = free_port()
    server = subprocess.Popen(
        [_binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--requirepass", "sesame",
         "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"redis://:sesame@127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(60)


class Consortium(Installation):
    """An installation whose engines are named by the environment, as in docker-compose.yml."""

    engines: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **self.engines}


def test_a_run_finishes_on_postgresql_and_redis(postgres: str, redis: str, tmp_path: Path) -> None:
    installation = Consortium(tmp_path / "coordinator")
    installation.folder.mkdir()
    installation.engines = {
        "FEDSLICE_DATABASE": postgres,
        "FEDSLICE_REDIS": redis,
        "FEDSLICE_BLOBS": str(tmp_path / "blobs"),
        "FEDSLICE_SUPERVISOR_TOKEN": "a-token-from-the-environment-only",
        "FEDSLICE_SECRET_KEY": "a-key-from-the-environment-only-and-long-enough-for-django",
    }
    agents = []
    try:
        installation.start()
        story.found(installation)
        for number in range(2):
            rows = [
                {"text": f"Patient {n} at ward {number} has a {LABELS[n % 3]}.", "label": LABELS[n % 3]}
                for n in range(36)
            ]
            agents.append(
                story.hospital(installation, tmp_path / f"site{number}", f"Hospital {number}", rows)
            )
        result = story.ended(installation, story.launched(installation, agents, rounds=1))
        assert result["state"] == "finished", result
        assert result["summary"]["receipts_verified"] == 2
        assert not list(installation.folder.glob("*.sqlite3"))
        assert not (installation.folder / "redis.conf").exists()
        assert list((tmp_path / "blobs").rglob("*"))
    finally:
        for agent in agents:
            agent.stop()
        installation.stop()
