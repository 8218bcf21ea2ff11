"""In trust domains, which have no sealing key, the hospitals' own agents bring a finished run's parameters
back: while its model is served, another enclave releases them.

The server's development platform plays TDX: each enclave is started by the launcher in a trust domain of its
own, and the agents, the coordinator and the bundle judge quotes of TDX's form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from contracts.sealed.package import ABOUT, README, ROWS
from tests.support import beginnings, story
from tests.support.installation import Agent, Installation, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LABELS = ("fracture", "fever", "rash")


@dataclass
class Cast:
    """An installation on a platform as TDX is, two hospitals, and their finished run of Method 2."""

    installation: Installation
    agents: list[Agent]
    run: str

    def ask(self, code: str) -> Any:
        """Lines that know the `run` and leave an `answer`."""
        return story.ask(self.installation, f"run = Run.objects.get(pk=pk)\n{code}", pk=self.run)

    def times(self, kind: str) -> int:
        return int(self.ask(f"answer = run.events.filter(kind={kind!r}).count()"))

    def until(self, what: str, state: str) -> None:
        """Wait until the run's `service` or `release` is in this state."""

        def there() -> bool:
            now, code = self.ask(f"answer = [run.{what}.state, run.{what}.error_code]")
            assert now != "failed", code
            return bool(now == state)

        wait_for(there, 120, f"{what} {state}", every=0.5)


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    folder, agents = tmp_path_factory.mktemp("keyless"), []
    model = str(beginnings.tiny_model())
    installation = Installation(folder / "coordinator", model=model, tee="tdx")
    installation.folder.mkdir()
    try:
        installation.start()
        story.found(installation)
        for number in range(2):
            rows = [{"text": f"case {n}: a {LABELS[n % 3]}", "label": LABELS[n % 3]} for n in range(36)]
            agents.append(story.hospital(installation, folder / f"site{number}", f"Hospital {number}", rows))
        plan = {"method": "method-2", "cut": 1, "attention_ratio": 50.0, "dense_ratio": 50.0, "rounds": 1}
        plan["key_shares"] = 2
        run = story.launched(installation, agents, **plan, model=model, release="sealed-to-sites")
        result = story.ended(installation, run)
        assert result["state"] == "finished", result
        yield Cast(installation, agents, run)
    finally:
        for agent in agents:
            agent.stop()
        installation.stop()


@pytest.mark.long
def test_the_model_is_served_and_its_parameters_are_released_at_once(cast: Cast, tmp_path: Path) -> None:
    anna, berta = cast.agents
    cast.ask("from enclave_jobs.serving import services\nservices.start(run.study.lead, run)\nanswer = None")
    cast.until("service", "serving")

    # Berta's agent is away: her signature counts, but without her share there is no key.
    berta.stop()
    fingerprint = cast.ask(
        "from enclave_jobs.releases import services\nanswer = services.ask(run.study.lead, run).receipt"
    )
    for agent in cast.agents:
        agent.run("approve", "--yes", "--hash", fingerprint)
    wait_for(lambda: cast.times("release.waits_for_sites"), 120, "the shares are asked for")
    assert "release.waiting" in anna.run(
        "release", "--run", cast.run, "--out", str(tmp_path / "early"), expect=1
    )
    assert anna.run("predict", "--run", cast.run, "--text", "case: a rash")
    berta.start()
    cast.until("release", "released")

    for number, agent in enumerate(cast.agents):
        folder = tmp_path / str(number)
        agent.run("release", "--run", cast.run, "--out", str(folder))
        assert {ABOUT, README, ROWS} <= {file.name for file in folder.iterdir()}
        about = json.loads((folder / ABOUT).read_bytes())
        assert (about["run"], about["receipt"]) == (cast.run, fingerprint)
        tuned = safetensors.torch.load((folder / ROWS).read_bytes())
        assert any(name.startswith("delta/") and bool(tuned[name].any()) for name in tuned)
