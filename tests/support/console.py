"""A terminal of an installation that stays open: `manage.py` costs a second or more at each start.

Run by itself, it is that process: with Django set up once, it reads a request a line (JSON: `code`, or a
management command's `arguments` with its `stdin`) and answers each with a line (`said`, and `failed` if it
did).
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any


class Console:
    """The other end of that process. Any thread may use it; it starts when it is first needed."""

    def __init__(self, repository: Path, environment: dict[str, str]) -> None:
        self._repository, self._environment = repository, environment
        self._process: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()

    def ask(self, **request: Any) -> str:
        """What the request said; its failure becomes the test's."""
        with self._turn:
            if self._process is None:
                # The repository's modules, which may be a double of ours; none of this folder's.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", __file__],
                    cwd=self._repository,
                    env={**self._environment, "PYTHONPATH": str(self._repository)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        assert line, f"the console ended with status {self._process.wait(10)}"
        answer = json.loads(line)
        assert "failed" not in answer, answer["said"] + answer["failed"]
        return answer["said"]

    def close(self) -> None:
        """It ends when its input does."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(60)
            self._process = None


def _perform(request: dict[str, Any]) -> None:
    from django.core.management import call_command
    from django.db import connections

    try:
        if "code" in request:
            exec(request["code"], {})
        else:
            sys.stdin = io.StringIO(request["stdin"])
            call_command(*request["arguments"])
    finally:
        connections.close_all()


def _serve() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "federation.settings")
    import django

    django.setup()
    answers = sys.stdout
    for line in sys.__stdin__ or ():
        said, answer = io.StringIO(), {}
        with redirect_stdout(said), redirect_stderr(said):
            try:
                _perform(json.loads(line))
            except BaseException:
                answer["failed"] = traceback.format_exc()
        answers.write(json.dumps(answer | {"said": said.getvalue()}) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
    os._exit(0)  # to tidy up after torch takes longer than all that was asked
