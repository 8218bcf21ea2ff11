"""A hospital whose coordinator is the attacker: it is enrolled, has a dataset, and types its commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.canonical import canonical
from contracts.manifest import Manifest
from site_agent.approvals import approved_hashes
from site_agent.datasets.catalogue import Dataset
from site_agent.state import Config, State
from tests.site_agent.conftest import SITE, Reply, Request, Server
from tests.site_agent.coordinator_log import Log
from tests.site_agent.factories import PINNED, add_dataset, certify, make_manifest
from tests.support.keys import keep_approval_key
from tests.support.terminal import Terminal


@dataclass
class Hospital:
    """`server` is its coordinator, which says what the test lets it say."""

    state: State
    dataset: Dataset
    server: Server
    log: Log = field(default_factory=Log)

    def manifest(self, **changes: Any) -> Manifest:
        """A run of this hospital and another, sound but for `changes`."""
        return make_manifest(self.state, self.dataset, **changes)

    def offer(
        self,
        *manifests: Manifest,
        statement: Any = None,
        hidden: bool = False,
        sweep: dict[str, Any] | None = None,
        declined: bool = False,
    ) -> None:
        """Let the coordinator ask for the approval of these manifests, all of one `sweep` or each alone; its
        log holds them unless `hidden`."""
        for manifest in () if hidden else manifests:
            self.log.freeze(manifest)
        item = {"study": "s1", "name": "Triage", "state": "waiting", "sweep": sweep, "declined": declined}
        answers = {
            "approvals": [
                {**item, "manifest_hash": manifest.hash, "manifest": canonical(manifest).decode()}
                for manifest in manifests
            ],
            "releases": [],
            "release-statement": {"statement": statement},
        }

        def answer(request: Request) -> Reply:
            if request.path.startswith("log/"):
                return self.log(request)
            return Reply(body=answers[request.path] if request.method == "GET" else {})

        self.server.answer = answer

    def types(self, *arguments: str) -> tuple[int, str]:
        """A command of the site agent, without a terminal: status and all that it says."""
        return Terminal(self.state.folder)(*arguments)

    def approves(
        self, manifest: Manifest, *options: str, strangers: bool = False, unbounded: bool = True
    ) -> tuple[int, str]:
        """`approve` by a script that knows the whole hash, and the members unless they are `strangers`. It
        accepts a run without noise if it is to (`unbounded`)."""
        known = () if strangers else ("--confirm-members",)
        known = (*known, "--accept", "unbounded") if unbounded else known
        return self.types("approve", "--yes", "--hash", manifest.hash, *known, *options)

    @property
    def approved(self) -> list[str]:
        """What it has signed, and what the coordinator has got of it, is the same."""
        posted = [request.json["manifest_hash"] for request in self.server.requests if request.body]
        assert sorted(set(posted)) == approved_hashes(self.state)
        return approved_hashes(self.state)


@contextmanager
def attacked_hospital(folder: Path, **pinned: Any) -> Iterator[Hospital]:
    """`pinned` is what was typed at enrolment."""
    server = Server()
    state = State.open(folder / "state")
    own = keep_approval_key(state.folder, state.key)
    reported = {"approval_key": own, "log_key": PINNED, **pinned}
    state.save(Config(coordinator=server.url, site=SITE, name="St. Anna", **reported))
    certify(state, folder / "root")
    try:
        yield Hospital(state, add_dataset(state, folder), server)
    finally:
        server.close()
