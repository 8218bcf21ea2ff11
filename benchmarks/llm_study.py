"""A whole study of a large language model through agents and coordinator: Method 2, three sites, one round.

Started by `benchmarks.llm`; the model has random weights, so what is learnt says nothing. Figures are the
highest memory (VmHWM) of any agent, which runs the front, and of the server's enclave, and the seconds of the
run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.demo.story import Story

REPOSITORY = Path(__file__).resolve().parents[1]
ROWS = (8, 7, 7)
"""Training, validation and test rows of a site: 21 to score, as fewer than 20 tell nothing."""
EVERY = 0.2


def study_figures(shape: str, folder: Path, cut: int) -> Iterator[dict[str, Any]]:
    """Of a study in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.llm_study", str(folder.resolve()), str(cut)]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    reported = json.loads(done.stdout.splitlines()[-1]) if not done.returncode else {}
    config = {"shape": shape, "cut": cut, "sites": 3, "rows": ROWS, "rounds": 1, "tee": "none"}
    for name, unit in (("agent", "GiB"), ("server", "GiB"), ("run", "s")):
        figure = "llm_study_seconds" if name == "run" else f"llm_study_peak_{name}"
        line = {"figure": figure, "value": reported.get(name), "unit": unit, "goal": None}
        yield {**line, "better": "lower", "config": config}


def _story(state: Path, model: Path, cut: int) -> Story:
    import msgspec

    from benchmarks.demo.discharge import HOSPITALS, write_questions
    from benchmarks.demo.language import LANGUAGE, METHOD_2, LanguageStory
    from benchmarks.demo.story import PLAN
    from enclave_jobs.runs.models import Run
    from federation.people.models import User
    from federation.studies.plan import Plan

    class LargeStory(LanguageStory):
        """As the demo's of SmolLM2, with a folder's model and few rows; nothing is served."""

        question = "does a model of this size go through?"
        run_seconds = 4 * 3600.0

        def plan_of(self, placement: Any, method: str) -> Plan:
            settings = {**LANGUAGE, **METHOD_2, "model": str(model), "cut": cut, "release": "nothing",
                        "rounds": 1, "batch_size": 4, "at_once": 1, "quorum": 3,
                        "deadline_seconds": 4 * 3600}  # fmt: skip
            return msgspec.structs.replace(PLAN, placement=placement, **settings)

        def afterwards(self, _lead: User, _run: Run) -> dict[str, Any]:
            return {}

        def _files(self) -> list[Path]:
            folder = self.state / "data"
            folder.mkdir(parents=True)
            files = [folder / f"hospital-{number}.jsonl" for number in range(1, HOSPITALS + 1)]
            for number, file in enumerate(files, 1):
                write_questions(file, hospital=number, rows=ROWS, seed=1)
            return files

    LargeStory.model = str(model)
    return LargeStory(state, None, "all_in_tee", "method-2")


def _watch(state: Path, peaks: dict[str, int], ended: threading.Event) -> None:
    """The highest VmHWM of processes that have the study's folder in their command line."""
    while not ended.wait(EVERY):
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_text()
                if str(state) not in command:
                    continue
                found = re.search(r"VmHWM:\s+(\d+)", (folder / "status").read_text())
            except OSError:
                continue
            kind = "server" if "split_server" in command else "agent" if "site_agent" in command else ""
            if kind and found:
                peaks[kind] = max(peaks.get(kind, 0), int(found[1]) * 1024)


def main(model: str, cut: str) -> int:
    """Print the figures of one study as JSON."""
    from benchmarks.demo.__main__ import free_port

    with tempfile.TemporaryDirectory(prefix="fedslice-llm-study-") as own:
        state = Path(own)
        os.environ.update(
            DJANGO_SETTINGS_MODULE="federation.settings", FEDSLICE_STATE=str(state / "coordinator"),
            FEDSLICE_URL=f"http://127.0.0.1:{free_port()}", FEDSLICE_SECOND_FACTOR="none", HF_HUB_OFFLINE="1",
        )  # fmt: skip
        import django

        django.setup()
        from enclave_jobs.stack import running

        story = _story(state, Path(model), int(cut))
        peaks: dict[str, int] = {}
        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(state, peaks, ended))
        watcher.start()
        try:
            with running():
                try:
                    summary = story.tell()
                finally:
                    story.stop()
        finally:
            ended.set()
            watcher.join()
        print(json.dumps({**{name: peak / (1 << 30) for name, peak in peaks.items()},
                          "run": summary["seconds_run"]}))  # fmt: skip
        shutil.rmtree(state / "coordinator", ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
