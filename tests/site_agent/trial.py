"""A coordinator and hospitals' agents as real processes, with a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.jobs.driver import make_rows
from tests.support import beginnings
from tests.support.installation import DEVELOPMENT, NAMED, Agent, Installation, wait_for


def accepted(plan: dict[str, Any]) -> list[str]:
    """The options by which a script says yes to the members, and to what is weak in a plan on purpose."""
    weak = {
        "quorum-below-two": plan.get("quorum") == 1,
        "unbounded": plan.get("privacy", "none") == "none",
    }
    return [
        "--confirm-members",
        *(part for name, is_so in weak.items() if is_so for part in ("--accept", name)),
    ]


class Trial:
    """A coordinator and two hospitals' agents."""

    def __init__(
        self,
        folder: Path,
        engines: dict[str, str] | None = None,
        installation: Installation | None = None,
    ) -> None:
        self.model = str(beginnings.tiny_model())
        ready = None if engines else self.model
        own = installation or Installation(folder / "state", model=ready, engines=engines or {})
        self.installation = own
        self.installation.folder.mkdir()
        self.agents: dict[str, Agent] = {}
        self.folder = folder

    def ask(self, **asked: Any) -> Any:
        text = repr(json.dumps(asked))
        code = f"import json; from tests.site_agent.coordinator_setup import main; main(json.loads({text}))"
        return json.loads(self.installation.shell(code).splitlines()[-1])

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """What the coordinator's database has, whichever it is."""
        found: list[dict[str, Any]] = self.ask(verb="rows", query=query, values=values)
        return found

    def start(self) -> None:
        """The coordinator, with the measurements of its programs and the model."""
        self.installation.start()
        if self.installation.model is None:
            self.installation.manage("register_model", self.model)
        self.installation.manage("register_measurements")

    def stop(self) -> None:
        for agent in self.agents.values():
            agent.stop()
        self.installation.stop()

    def enrol(self, name: str, train: int, *, public: bool = False, **environment: str) -> Agent:
        own = {**self.installation.environment, **environment}
        agent = Agent(self.folder / name, own, self.installation.repository)
        self.agents[name] = agent
        agent.run(*self.ask(verb="hospital", name=name).split()[3:], DEVELOPMENT)
        self.offer(agent, name, train, public=public)
        return agent

    def offer(self, agent: Agent, name: str, train: int, *, public: bool = False) -> None:
        """Add a dataset."""
        make_rows(self.folder / f"{name}.jsonl", name, train=train)
        said = [*NAMED, "--yes", *(["--public"] if public else [])]
        agent.run("dataset", "add", str(self.folder / f"{name}.jsonl"), *said)

    def log(self, name: str) -> str:
        return (self.agents[name].folder / "agent.log").read_text()

    def launched(self, **plan: Any) -> tuple[str, str]:
        """A study over all datasets, approved by all agents, which then start; manifest hash and run."""
        plan = {"model": self.model, "max_tokens": 16, "batch_size": 4, **plan}
        approved = self.ask(verb="freeze", plan={"learning_rate": 0.01, "deadline_seconds": 120, **plan})
        for agent in self.agents.values():
            agent.run("approve", "--yes", "--hash", approved, *accepted(plan))
            agent.start()
        return approved, self.ask(verb="launch")

    def ended(self, run: str, seconds: float) -> dict[str, Any]:
        """Wait for the run's end; its row."""

        def look() -> dict[str, Any] | None:
            (row,) = self.rows("select * from runs_run where id = %s", run)
            return row if row["state"] in ("finished", "failed", "cancelled") else None

        found = wait_for(look, seconds, "the end of the run")
        assert isinstance(found, dict)
        return found
