"""One hospital of the demo: its folder, and its site agent driven by its usual command line."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Hospital:
    """`state` is the agent's folder; `data` the file with its rows (they stay here)."""

    name: str
    admin: str
    state: Path
    data: Path
    daemon: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def agent(self, *arguments: str) -> str:
        """Run one command of the site agent; its words on failure become the error's."""
        done = subprocess.run(
            self._command(*arguments), env=self._environment(), cwd=REPOSITORY, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: site_agent {arguments[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, log: Path) -> None:
        """Start `site_agent run`, which works until it is stopped."""
        with log.open("ab") as stream:
            self.daemon = subprocess.Popen(
                self._command("run"),
                env=self._environment(),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Stop the agent politely, then for good."""
        if self.daemon is None or self.daemon.poll() is not None:
            return
        self.daemon.terminate()
        try:
            self.daemon.wait(20)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "site_agent", "--state", str(self.state), *arguments]

    def _environment(self) -> dict[str, str]:
        # Three hospitals share this machine, so each computes on one core.
        return {**os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
