"""PostgreSQL turns nobody away: threads of a process share a bounded pool of connections."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db.utils import ConnectionHandler

from contracts.bound_request import AGENTS_API
from federation import settings
from tests.jobs.test_line import start_web
from tests.support import redis_server
from tests.support.engines import postgresql_server
from tests.support.installation import REPOSITORY, free_port, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PROCESSES, EACH, MOST = 2, 5, 14
REQUESTS = 20
"""To each process; it has 16 threads, so that both together would hold 32 connections and more."""


def ask(url: str) -> tuple[int, str]:
    """Something that reads the table of sites."""
    token = jwt.encode({"iss": "nobody"}, Ed25519PrivateKey.generate(), algorithm="EdDSA")
    answer = httpx.post(
        f"{url}{AGENTS_API}lease", json={}, headers={"Authorization": f"Bearer {token}"}, timeout=90
    )
    return answer.status_code, answer.json()["code"]


def held(url: str) -> int:
    """Connections of others to our database now."""
    query = (
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )
    with psycopg.connect(url) as asking:
        return int(asking.execute(query).fetchone()[0])  # type: ignore[index]


def test_more_threads_than_postgresql_has_connections_wait_for_one_and_are_all_answered(
    tmp_path: Path,
) -> None:
    with postgresql_server(f"max_connections={MOST + 4}") as database, redis_server.running() as redis:
        environment = {
            **os.environ,
            "FEDSLICE_STATE": str(tmp_path),
            "FEDSLICE_DATABASE": database,
            "FEDSLICE_DATABASE_CONNECTIONS": str(EACH),
            "FEDSLICE_REDIS": redis_server.url_of(redis),
        }
        migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(migrate, cwd=REPOSITORY, env=environment, check=True, timeout=300)
        running, urls = [], []
        try:
            for number in range(PROCESSES):
                port = free_port()
                url = f"http://127.0.0.1:{port}"
                running.append(
                    start_web({**environment, "FEDSLICE_URL": url}, port, tmp_path / f"web-{number}.log")
                )
                urls.append(url)
            with ThreadPoolExecutor(PROCESSES * REQUESTS) as pool, psycopg.connect(database) as locking:
                locking.execute("LOCK TABLE sites_site IN ACCESS EXCLUSIVE MODE")
                asked = [pool.submit(ask, url) for url in urls for _ in range(REQUESTS)]
                wait_for(lambda: held(database) >= PROCESSES * EACH, 90, "both pools are full")
                time.sleep(1)  # for one more, were there any
                assert not any(each.done() for each in asked), [
                    each.result() for each in asked if each.done()
                ]
                assert held(database) <= PROCESSES * EACH + 1  # and the one that locks
                locking.rollback()
                answers = {each.result(90) for each in asked}
        finally:
            for process in running:
                process.kill()
                process.wait()
    assert answers == {(401, "auth.unknown_site")}


def test_after_a_crash_of_postgresql_a_process_has_connections_again_at_once() -> None:
    """All of its pool are dead then; psycopg's own finds one after the other, and gives up after 30 s."""
    with postgresql_server() as database:
        pool = ConnectionHandler({"default": settings.database(database)})["default"].pool
        pool.open()
        try:
            held = [pool.getconn() for _ in range(pool.max_size)]
            backend = held[0].info.backend_pid
            for connection in held:
                pool.putconn(connection)
            os.kill(backend, signal.SIGKILL)
            wait_for(lambda: _serves(database), 120, "PostgreSQL serves again")
            began = time.monotonic()
            with pool.connection() as connection:
                connection.execute("select 1")
            assert time.monotonic() - began < 25
        finally:
            pool.close()


def _serves(database: str) -> bool:
    try:
        with psycopg.connect(database):
            return True
    except psycopg.OperationalError:
        return False
