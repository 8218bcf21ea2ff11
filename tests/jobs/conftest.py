"""Hospitals and a coordinator for the conductor: real processes, real Redis, real enclaves, in a folder."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attestation.development import create_platform, install_platform
from contracts.kept_keys import signing_secret
from contracts.signing import SigningKey
from tests.jobs.bucket_scene import bucket as bucket
from tests.jobs.bucket_scene import storage as storage
from tests.jobs.driver import Api, Hospital, make_rows
from tests.support import beginnings
from tests.support.installation import Installation, wait_for

NAMES = ("anna", "berta", "clara")


@dataclass
class Consortium:
    """A running coordinator and its hospitals; the database is read directly, as SQLite, to look at it."""

    installation: Installation
    hospitals: dict[str, Hospital]
    model: Path
    members: tuple[str, ...] = NAMES

    def launch(self, members: tuple[str, ...] = NAMES, **plan: Any) -> str:
        """A run of these hospitals; a client slice each costs seconds, so no more than a claim needs."""
        self.members = members
        keys = {name: signing_secret(self.hospitals[name].api.key).hex() for name in members}
        settings = {
            "model": str(self.model),
            "max_tokens": 16,
            "rank": 4,
            "alpha": 8,
            "rounds": 2,
            "batch_size": 4,
            "learning_rate": 0.01,
            "quorum": 2,
            "deadline_seconds": 60,
            **plan,
        }
        rows = {name: self.hospitals[name].publish() for name in members}
        return ask(self.installation, verb="launch", keys=keys, plan=settings, rows=rows)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        database = sqlite3.connect(f"file:{self.installation.folder}/coordinator.sqlite3?mode=ro", uri=True)
        database.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in database.execute(query, values)]
        finally:
            database.close()

    def run(self, run: str) -> dict[str, Any]:
        row = self.rows("select * from runs_run where id = ?", run)[0]
        return row | {"summary": json.loads(row["summary"]), "facts": json.loads(row["facts"])}

    def rounds(self, run: str) -> list[dict[str, Any]]:
        return self.rows("select * from runs_round where run_id = ? order by number", run)

    def contributions(self, run: str, number: int) -> dict[str, dict[str, Any]]:
        query = (
            "select c.* from runs_contribution c join runs_round r on r.id = c.round_id"
            " where r.run_id = ? and r.number = ?"
        )
        return {row["site_id"]: row for row in self.rows(query, run, number)}

    def events(self, run: str) -> list[str]:
        return [
            row["kind"]
            for row in self.rows("select kind from studies_event where run_id = ? order by id", run)
        ]

    def finished(self, run: str, seconds: float = 150) -> dict[str, Any]:
        """Wait for the run's end; a hospital's own error fails the test at once."""

        def over() -> bool:
            for hospital in self.hospitals.values():
                assert hospital.error is None, hospital.error
            return self.run(run)["state"] in ("finished", "failed", "cancelled")

        wait_for(over, seconds, f"the end of run {run}")
        return self.run(run)

    def until(self, run: str, number: int, *states: str, seconds: float = 90) -> None:
        """Wait until round `number` is in one of these states."""

        def there() -> bool:
            assert self.run(run)["state"] != "failed", self.run(run)
            return any(row["number"] == number and row["state"] in states for row in self.rounds(run))

        wait_for(there, seconds, f"round {number} {states}")

    def serve(self, run: str) -> str:
        """Have the run's model served: its lead asks, and as many hospitals sign as the manifest demands."""
        keys = {name: signing_secret(hospital.api.key).hex() for name, hospital in self.hospitals.items()}
        return ask(self.installation, verb="serve", run=run, keys=keys)

    def pids(self, pattern: str) -> list[int]:
        """Processes of this installation whose command line has `pattern`. An enclave's environment is bare,
        but its command line names its mailbox."""
        folder, found = str(self.installation.folder).encode(), []
        for entry in Path("/proc").iterdir():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                ours = folder in command or folder in (entry / "environ").read_bytes()
            except OSError:
                continue
            if entry.name.isdigit() and pattern.encode() in command and ours:
                found.append(int(entry.name))
        return found

    def kill(self, pattern: str) -> list[int]:
        """kill -9 the stack's processes whose command line has `pattern`; the stack starts them again."""
        killed = self.pids(pattern)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        return killed

    def start(self) -> None:
        for name in self.members:
            self.hospitals[name].start()

    def stop(self) -> None:
        for hospital in self.hospitals.values():
            hospital.stopping.set()  # all of them first: each may wait for its answer
        for hospital in self.hospitals.values():
            hospital.stop()
            hospital.hooks.clear()
            hospital.done.clear()
            hospital.error = None


def ask(installation: Installation, **asked: Any) -> Any:
    """Run a verb of installation_setup.py inside the installation."""
    asked_text = repr(json.dumps(asked))
    code = f"import json; from tests.jobs.installation_setup import main; main(json.loads({asked_text}))"
    return json.loads(installation.shell(code).splitlines()[-1])


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """A coordinator with three hospitals, once for a module."""
    folder = tmp_path_factory.mktemp("conductor")
    model = beginnings.tiny_model()
    installation = Installation(folder / "state", model=str(model))
    installation.folder.mkdir()
    keys = {name: SigningKey.generate() for name in NAMES}
    requests = {name: create_platform(folder / name / "platform").decode() for name in NAMES}
    try:
        installation.start()
        installation.manage("register_measurements")
        secrets = {name: signing_secret(key).hex() for name, key in keys.items()}
        chains = ask(installation, verb="hospitals", keys=secrets, requests=requests)
        hospitals = {}
        for number, name in enumerate(NAMES):
            install_platform(folder / name / "platform", chains[name])
            make_rows(folder / name / "rows.jsonl", name, train=12 + 4 * number)
            api = Api(installation.url, name, keys[name])
            hospitals[name] = Hospital(
                api, folder / name, model, folder / name / "rows.jsonl", folder / name / "platform"
            )
        consortium = Consortium(installation, hospitals, model)
        yield consortium
        consortium.stop()
    finally:
        installation.stop()


@pytest.fixture
def consortium(coordinator: Consortium) -> Iterator[Consortium]:
    """The coordinator, with agents that are stopped and forgetful after each test."""
    yield coordinator
    coordinator.stop()
