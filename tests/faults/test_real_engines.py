"""The settings of docker-compose.yml against Debian's own PostgreSQL and Redis, started natively."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import beginnings, story
from tests.support.engines import binary, postgresql_server
from tests.support.installation import Installation, free_port

pytestmark = [pytest.mark.timeout(900)]
LABELS = ("fracture", "fever", "rash")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of an empty database in a cluster of its own."""
    with postgresql_server() as url:
        yield url


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    """Debian's redis-server with a password, on a free port."""
    port = free_port()
    server = subprocess.Popen(
        [binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--requirepass", "sesame",
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
    agents, model = [], str(beginnings.tiny_model())
    try:
        installation.start()
        story.found(installation, model=model)
        for number in range(2):
            rows = [
                {"text": f"Patient {n} at ward {number} has a {LABELS[n % 3]}.", "label": LABELS[n % 3]}
                for n in range(36)
            ]
            agents.append(
                story.hospital(installation, tmp_path / f"site{number}", f"Hospital {number}", rows)
            )
        result = story.ended(installation, story.launched(installation, agents, rounds=1, model=model))
        assert result["state"] == "finished", result
        assert result["summary"]["receipts_verified"] == 2
        assert not list(installation.folder.glob("*.sqlite3"))
        assert not (installation.folder / "redis.conf").exists()
        assert list((tmp_path / "blobs").rglob("*"))
    finally:
        for agent in agents:
            agent.stop()
        installation.stop()
