"""The database as one file, as it stood at one moment, and back. SQLite by its own online backup; PostgreSQL
table by table (COPY) out of one snapshot, into tables as they were then. `migrate` brings both up to date."""

from __future__ import annotations

import json
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final

from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.backends.utils import CursorWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.graph import Node
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from contracts.refusal import Refusal

_SIZE: Final = struct.Struct(">Q")
MIGRATIONS: Final = "django_migrations"


def engine() -> str:
    """`sqlite` or `postgresql`."""
    return connection.vendor


def steps() -> list[str]:
    """The migrations that the database has seen: what its tables look like."""
    return sorted(f"{app}.{name}" for app, name in MigrationRecorder(connection).applied_migrations())


def is_empty() -> bool:
    """No table at all: where nothing has been migrated yet."""
    return not connection.introspection.table_names()


def dump(file: Path) -> None:
    """Write the database as of now; others go on writing."""
    if engine() == "sqlite":
        source = f"file:{connection.settings_dict['NAME']}?mode=ro"
        with closing(sqlite3.connect(source, uri=True)) as here, closing(sqlite3.connect(file)) as copy:
            here.backup(copy)
        return
    with file.open("wb") as out, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for table in sorted(connection.introspection.django_table_names(only_existing=True)):
            columns = [
                column.name for column in connection.introspection.get_table_description(cursor, table)
            ]
            _say(out, json.dumps([table, columns]).encode())
            with cursor.copy(f"COPY {_named(table, columns)} TO STDOUT") as rows:
                for piece in rows:
                    _say(out, bytes(piece))
            _say(out, b"")


def require_known(seen: list[str]) -> None:
    """A backup of an older version is brought to this one's tables; one of a newer version has what nobody
    here can read.

    Raises: `backup.other_version`.
    """
    known = {f"{app}.{name}" for app, name in MigrationLoader(connection).disk_migrations}
    if not set(seen) <= known:
        raise Refusal("backup.other_version")


def load(file: Path, seen: list[str]) -> None:
    """Into an empty database, whose tables are then this version's.

    Raises: as `require_known`; CommandError where `migrate` stops, as it would end runs.
    """
    require_known(seen)
    if engine() == "sqlite":
        connections.close_all()
        with closing(sqlite3.connect(file)) as copy, closing(sqlite3.connect(_sqlite())) as here:
            copy.backup(here)
    else:
        _migrate_to(seen)
        _fill(file)
    call_command("migrate", verbosity=0)


def _migrate_to(seen: list[str]) -> None:
    """Tables as they were dumped: each app's last migration of those that were seen, and what it needs."""
    executor = MigrationExecutor(connection)
    nodes = {(app, name) for app, _, name in (step.partition(".") for step in seen)}
    executor.migrate([node for node in nodes if not _goes_on(executor.loader.graph.node_map[node], nodes)])


def _goes_on(node: Node, nodes: set[tuple[str, str]]) -> bool:
    return any(child.key in nodes and child.key[0] == node.key[0] for child in node.children)


def _fill(file: Path) -> None:
    """The rows, into tables whose own (what migrations wrote) go, and the sequences behind them."""
    with file.open("rb") as source, transaction.atomic(), connection.cursor() as cursor:
        tables = [name for name in connection.introspection.table_names() if name != MIGRATIONS]
        cursor.execute(f"TRUNCATE {', '.join(map(connection.ops.quote_name, tables))}")
        while head := source.read(_SIZE.size):
            table, columns = json.loads(source.read(_SIZE.unpack(head)[0]))
            with cursor.copy(f"COPY {_named(table, columns)} FROM STDIN") as rows:
                while piece := _heard(source):
                    rows.write(piece)
        for table in tables:
            for sequence in connection.introspection.get_sequences(cursor, table):
                _reset(cursor, table, sequence["column"])


def _reset(cursor: CursorWrapper, table: str, column: str) -> None:
    """The next value comes after the largest that there is."""
    name, quoted = connection.ops.quote_name(table), connection.ops.quote_name(column)
    last, rows = f"coalesce(max({quoted}), 1), max({quoted}) IS NOT NULL", f"FROM {name}"
    cursor.execute(f"SELECT setval(pg_get_serial_sequence(%s, %s), {last}) {rows}", [name, column])


def _sqlite() -> str:
    return str(connection.settings_dict["NAME"])


def _named(table: str, columns: list[str]) -> str:
    quoted = ", ".join(connection.ops.quote_name(column) for column in columns)
    return f"{connection.ops.quote_name(table)} ({quoted})"


def _say(out: BinaryIO, piece: bytes) -> None:
    out.write(_SIZE.pack(len(piece)) + piece)


def _heard(source: BinaryIO) -> bytes:
    return source.read(_SIZE.unpack(source.read(_SIZE.size))[0])
