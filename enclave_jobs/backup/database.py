"""The database as one file, as it stood at one moment, and back. SQLite by its own online backup; PostgreSQL
table by table (COPY) out of one snapshot, into tables that `migrate` has made."""

from __future__ import annotations

import json
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final

from django.apps import apps
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import connection, connections, transaction
from django.db.migrations.recorder import MigrationRecorder

from contracts.refusal import Refusal

_SIZE: Final = struct.Struct(">Q")


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


def load(file: Path, seen: list[str]) -> None:
    """Into an empty database.

    Raises: `backup.other_version` where PostgreSQL's tables would differ from those that were dumped;
    SQLite's file brings its own, and is migrated after.
    """
    if engine() == "sqlite":
        connections.close_all()
        with closing(sqlite3.connect(file)) as copy, closing(sqlite3.connect(_sqlite())) as here:
            copy.backup(here)
        call_command("migrate", verbosity=0)
        return
    call_command("migrate", verbosity=0)
    if steps() != seen:
        raise Refusal("backup.other_version")
    with file.open("rb") as source, transaction.atomic(), connection.cursor() as cursor:
        tables = connection.introspection.django_table_names(only_existing=True)
        cursor.execute(f"TRUNCATE {', '.join(connection.ops.quote_name(name) for name in tables)}")
        while head := source.read(_SIZE.size):
            table, columns = json.loads(source.read(_SIZE.unpack(head)[0]))
            with cursor.copy(f"COPY {_named(table, columns)} FROM STDIN") as rows:
                while piece := _heard(source):
                    rows.write(piece)
        for statement in connection.ops.sequence_reset_sql(no_style(), apps.get_models()):
            cursor.execute(statement)


def _sqlite() -> str:
    return str(connection.settings_dict["NAME"])


def _named(table: str, columns: list[str]) -> str:
    quoted = ", ".join(connection.ops.quote_name(column) for column in columns)
    return f"{connection.ops.quote_name(table)} ({quoted})"


def _say(out: BinaryIO, piece: bytes) -> None:
    out.write(_SIZE.pack(len(piece)) + piece)


def _heard(source: BinaryIO) -> bytes:
    return source.read(_SIZE.unpack(source.read(_SIZE.size))[0])
