"""Debian's own engines, started natively in folders that go afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.installation import free_port, wait_for


def binary(name: str) -> str:
    """Where Debian put this program."""
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    found = shutil.which(name) or (str(candidates[0]) if candidates else None)
    if found is None:
        raise AssertionError(f"{name} is missing: run .ci/install-debian.sh")
    return found


def _as_postgres() -> dict[str, object]:
    """PostgreSQL refuses to run as root; Debian's package made a user for it."""
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def postgresql_server(*options: str) -> Iterator[str]:
    """A cluster of its own on a free port, with these settings (name=value); the URL of an empty database."""
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/fedslice-pg-XXXXXX"], text=True).strip())
    identity = _as_postgres()
    if identity:
        shutil.chown(folder, "postgres", "postgres")
    port, data = free_port(), folder / "data"
    (folder / "password").write_text("s3cret/with:signs")
    common: dict[str, object] = {"cwd": "/tmp", "stdout": subprocess.DEVNULL, **identity}
    subprocess.run(
        [binary("initdb"), "--pgdata", str(data), "--username", "fedslice", "--auth", "scram-sha-256",
         "--pwfile", str(folder / "password"), "--no-sync"], check=True, **common,  # type: ignore[call-overload]
    )  # fmt: skip
    named = ("listen_addresses=127.0.0.1", *options)
    server = subprocess.Popen(
        [binary("postgres"), "-D", str(data), "-p", str(port), "-k", str(folder),
         *(word for option in named for word in ("-c", option))],
        stderr=subprocess.DEVNULL, **common,  # type: ignore[call-overload]
    )  # fmt: skip
    environment = {**os.environ, "PGPASSWORD": "s3cret/with:signs"}
    psql = [binary("psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "fedslice", "-d", "postgres", "-c"]

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
        server.send_signal(signal.SIGINT)  # at SIGTERM it would wait for who is still connected
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
