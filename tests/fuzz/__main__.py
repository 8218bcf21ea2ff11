"""Fuzz the targets, guided by coverage (atheris, which is libFuzzer for Python), one process for each.

    make fuzz [SECONDS=600] [TARGET=name]

Inputs that reached new code are kept in var/fuzz/<target>/ and go on from there the next time; the first
input that breaks a target is kept as var/fuzz/<target>.crash, libFuzzer's own copy of it beside that. One
JSON line for each target, on stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import django

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import load
from tests.fuzz.trial import Fault, attempt

HOME = Path(__file__).parents[2] / "var" / "fuzz"
OURS = ["contracts", "attestation", "enclave", "site_agent", "transparency_log"]


def names() -> list[str]:
    """All targets, or those whose name contains what was asked for."""
    return sorted(load())


def one(name: str, seconds: int) -> None:
    """Fuzz one target in this process. libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=OURS):
        django.setup()
        target = load()[name]
    seeds = target.seeds()
    corpus = HOME / _file(name)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    draw, tried, began = random.Random(0), 0, time.time()

    def vary(data: bytes, size: int, _seed: int) -> bytes:
        """Half of the time libFuzzer's own changes, half of the time ours, which keep JSON whole."""
        if draw.random() < 0.5:
            return bytes(atheris.Mutate(data, size))
        return mutated([data, *seeds], draw)[:size]

    def test(data: bytes) -> None:
        nonlocal tried
        tried += 1
        try:
            attempt(target, data)
        except Fault as fault:
            (HOME / f"{_file(name)}.crash").write_bytes(data)
            _say(name, tried, began, str(fault))
            raise
        if tried % 1000 == 0:
            _say(name, tried, began, None)

    options = [
        f"-artifact_prefix={HOME / _file(name)}.",
        f"-max_total_time={seconds}",
        "-max_len=65536",
        "-timeout=60",
        "-rss_limit_mb=4096",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], str(corpus), *options], test, custom_mutator=vary)
    atheris.Fuzz()


def _say(name: str, tried: int, began: float, fault: str | None) -> None:
    said = {"target": name, "inputs": tried, "seconds": round(time.time() - began), "fault": fault}
    (HOME / f"{_file(name)}.json").write_text(json.dumps(said) + "\n")


def _file(name: str) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in name)


def main() -> int:
    """Fuzz every target for so many seconds, `--beside` at a time; 1 where a fault was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=main.__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="of each target (default: %(default)s)")
    parser.add_argument("--target", default="", help="only those whose name contains this")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    parser.add_argument(
        "--beside", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="at the same time"
    )
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "federation.settings")
    if options.one:
        one(options.one, options.seconds)
        return 0
    HOME.mkdir(parents=True, exist_ok=True)
    django.setup()
    chosen = [name for name in names() if options.target in name]
    running: list[subprocess.Popen[bytes]] = []
    for name in chosen:
        for left in (".json", ".crash"):
            with contextlib.suppress(FileNotFoundError):
                (HOME / f"{_file(name)}{left}").unlink()
        while len(running) >= options.beside:
            time.sleep(0.2)
            running = [process for process in running if process.poll() is None]
        log = (HOME / f"{_file(name)}.log").open("wb")
        command = [sys.executable, "-m", "tests.fuzz", "--one", name, "--seconds", str(options.seconds)]
        running.append(subprocess.Popen(command, stdout=log, stderr=log))
    for process in running:
        process.wait()
    faults = 0
    for name in chosen:
        report = HOME / f"{_file(name)}.json"
        line = (
            report.read_text()
            if report.exists()
            else json.dumps({"target": name, "fault": "it did not run"}) + "\n"
        )
        faults += json.loads(line)["fault"] is not None
        sys.stdout.write(line)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
