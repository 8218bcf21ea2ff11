"""A hospital's terminal at which nobody sits: the product's commands, here or in a process of their own."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from site_agent import cli


@dataclass
class Terminal:
    """Commands of the site agent on the state folder `folder`: status and all that they say. `program` is
    what Python runs in a process of its own."""

    folder: Path
    program: str = "from site_agent import cli; import sys; sys.exit(cli.main(sys.argv[1:]))"

    def __call__(self, *arguments: str) -> tuple[int, str]:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = cli.main(["--state", str(self.folder), *arguments])
        return status, said.getvalue()

    def elsewhere(self, *arguments: str) -> tuple[int, str]:
        """The same as a process of its own."""
        command = [sys.executable, "-c", self.program, "--state", str(self.folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr
