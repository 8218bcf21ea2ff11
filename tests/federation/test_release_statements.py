"""The operator publishes what FedSlice's makers have signed; the log keeps each, agents get the newest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from attestation import release_statement
from contracts.fingerprint import key_fingerprint
from contracts.kept_keys import signing_key
from contracts.release_statement import parse_statement
from federation.attestation.models import LogEntry
from tests.federation.cast import Hospital

pytestmark = pytest.mark.django_db


def made(capsys: Any, key: Path, sequence: int) -> bytes:
    """What the makers' command writes."""
    expires = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 90 * 86400))
    arguments = ["--key", str(key), "--sequence", str(sequence), "--expires", expires]
    capsys.readouterr()
    assert release_statement.main(arguments) == 0
    return capsys.readouterr().out.encode()  # type: ignore[no-any-return]


def test_the_newest_statement_reaches_agents_and_stands_in_the_log(
    anna: Hospital, tmp_path: Path, capsys: Any
) -> None:
    assert anna.call("get", "release-statement").json() == {"statement": None}
    key, file = tmp_path / "key", tmp_path / "statement.json"
    assert release_statement.main(["--new-key", str(key)]) == 0
    shown = capsys.readouterr().out
    assert key.stat().st_mode & 0o777 == 0o600
    assert key_fingerprint(signing_key(bytes.fromhex(key.read_text().strip())).public) in shown
    for sequence in (3, 4, 4):  # again changes nothing
        file.write_bytes(made(capsys, key, sequence))
        call_command("publish_release_statement", file)
    reported = anna.call("get", "release-statement").json()["statement"]
    assert parse_statement(reported) == parse_statement(file.read_bytes())
    assert LogEntry.objects.filter(kind="release-statement").count() == 2
    file.write_bytes(made(capsys, key, 3))
    with pytest.raises(CommandError, match="holds the newer one back"):
        call_command("publish_release_statement", file)
    file.write_bytes(file.read_bytes().replace(b'"svn":1', b'"svn":9'))
    with pytest.raises(CommandError, match="its signature is wrong"):
        call_command("publish_release_statement", file)
