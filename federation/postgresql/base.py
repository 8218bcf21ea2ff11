"""What Django loads by the name of the engine: its own backend, and psycopg's pool with less patience.

A server that has crashed leaves a pool full of dead connections. psycopg's pool hands them out one by one,
and waits after each for twice as long as after the last: with eight, half a minute has gone, and the request
is refused. Here the first one that is found dead has all others looked at, and nobody waits for longer than a
second before the server is tried again.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from psycopg_pool import ConnectionPool
from psycopg_pool.pool import AddConnection, MaintenanceTask

LONGEST_PAUSE: Final = 1.0
"""Seconds between two tries to connect."""


class Pool(ConnectionPool):
    """psycopg's, which replaces all dead connections when it meets one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(check=self._looked_at, **options)

    def schedule_task(self, task: MaintenanceTask, delay: float) -> None:
        super().schedule_task(task, min(delay, LONGEST_PAUSE) if isinstance(task, AddConnection) else delay)

    def _looked_at(self, connection: psycopg.Connection[Any]) -> None:
        try:
            self.check_connection(connection)
        except psycopg.Error:
            self.check()
            raise


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's, with this pool."""

    @property
    def pool(self) -> ConnectionPool | None:
        mine: Any = self  # django-stubs does not know of pools
        options = self.settings_dict["OPTIONS"].get("pool")
        if options and self.alias != NO_DB_ALIAS and self.alias not in mine._connection_pools:
            made = Pool(
                kwargs=self.get_connection_params() | {"autocommit": True},
                open=False,
                configure=mine._configure_connection,
                **options,
            )
            mine._connection_pools.setdefault(self.alias, made)
        return super().pool
