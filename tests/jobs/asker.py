"""A hospital that asks a served model with the product's own command, over a real coordinator."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from contracts.kept_keys import signing_secret
from contracts.manifest import parse
from site_agent.approvals import Approved
from site_agent.files import create_private, private_folder
from site_agent.state import Config, State
from site_agent.witness import log_key_fingerprint
from tests.jobs.conftest import Consortium
from tests.support.approvals import approve, members
from tests.support.instances import AS_HERE
from tests.support.keys import approval_key


class Asker:
    """St. Anna with the state folder that its agent would have, and the run whose model is served."""

    def __init__(self, consortium: Consortium, run: str, folder: Path) -> None:
        self.consortium, self.run, self.folder = consortium, run, private_folder(folder)
        hospital = consortium.hospitals["anna"]
        state = State(private_folder(folder / "state"))
        create_private(state.folder / "site.key", signing_secret(hospital.api.key).hex().encode())
        own = approval_key(hospital.api.key).public
        row = consortium.run(run)
        text, digest = row["manifest"], row["manifest_hash"]
        manifest = parse(text.encode())
        assert manifest.log is not None
        reported = {"insecure_http": True, "log_key": log_key_fingerprint(manifest.log.key)}
        state.save(Config(consortium.installation.url, "anna", "St. Anna", own, **reported))
        given = approve(digest, "anna", hospital.api.key, members(manifest))
        approved = Approved(text, digest, given.confirmed, given.signature, int(time.time()))
        kept = private_folder(state.approved) / f"{row['manifest_hash']}.json"
        create_private(kept, msgspec.json.encode(approved))
        self.state = state

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", AS_HERE, "--state", str(self.state.folder), "predict"]
        return subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def predict(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=150)
        return process.returncode, out, err

    def service(self) -> dict[str, Any]:
        return self.consortium.rows("select * from serving_service where run_id = ?", self.run)[0]

    def use(self) -> dict[str, Any]:
        query = (
            "select u.* from serving_use u join serving_service s on s.id = u.service_id"
            " where u.site_id = 'anna' and s.run_id = ?"
        )
        return self.consortium.rows(query, self.run)[0]

    def server(self) -> int:
        (pid,) = self.consortium.pids("enclave.programs.split_server")
        return pid
