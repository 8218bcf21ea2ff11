"""`site_agent check` as a process in environments in which something is broken: a true row for each.

The network is real: TLS of the test's own authorities, small proxies, namespaces of Linux for names, routes,
stores of certificates and disks. All run beside each other, started when the first one is asked for.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.support import namespaces
from tests.support.broken_environments import ENVIRONMENTS, Environment
from tests.support.broken_world import World, made
from tests.support.installation import REPOSITORY

Done = subprocess.CompletedProcess[str]
AT_ONCE = 6
WITHOUT_PRIVILEGE = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""Root may read everything; this root may not."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with made(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture(scope="module")
def check(world: World, request: pytest.FixtureRequest) -> Iterator[Callable[[Environment], Done]]:
    """What the command said in an environment; those of all selected tests run from the first call on."""
    chosen = [
        callspec.params["environment"]
        for item in request.session.items
        if item.path == request.path and (callspec := getattr(item, "callspec", None)) is not None
    ]
    possible = namespaces.possible()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running: dict[str, Future[Done]] = {
            environment.name: pool.submit(run, world, environment)
            for environment in chosen
            if possible or not (environment.inside or environment.network)
        }

        def said(environment: Environment) -> Done:
            if environment.name not in running:
                namespaces.require()
            return running[environment.name].result()

        yield said


def run(world: World, environment: Environment) -> Done:
    name = re.sub(r"[^a-z0-9]+", "-", environment.name.lower())
    trusts = world.filled(environment.trusts) if environment.trusts else None
    state = world.enrolled(name, world.filled(environment.at), trusts, environment.site).folder
    if environment.broken is not None:
        environment.broken(state)
    command = [sys.executable, "-m", "site_agent", "--state", str(state), "check"]
    if os.geteuid() == 0:
        command = [*WITHOUT_PRIVILEGE, *command]
    if environment.inside or environment.network:
        spaces = namespaces.OWN_NETWORK if environment.network else namespaces.OWN_MOUNTS
        up = "ip link set lo up; " if environment.network else ""
        script = world.script(environment.inside, state) or "true"
        command = [*spaces, "bash", "-c", f'{up}{script}\n"$@"', "bash", *command]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    variables = {key: world.filled(value) for key, value in environment.variables.items()}
    return subprocess.run(
        command, cwd=REPOSITORY, env=kept | variables, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


def reported(printed: str) -> tuple[dict[str, tuple[str, str]], str]:
    """The rows by their names, and all that stands below the table."""
    rows, _, below = printed.partition("\n\n")
    found = re.findall(r"^(\S.*?) {2,}(ok|look|FAIL) {2,}(.*)$", rows, re.MULTILINE)
    return {name: (how, words) for name, how, words in found}, below


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param(each, id=each.name, marks=[] if each.short else [pytest.mark.long])
        for each in ENVIRONMENTS
    ],
)
def test_each_broken_environment_has_its_true_row(
    environment: Environment, check: Callable[[Environment], Done], world: World
) -> None:
    done = check(environment)
    everything = done.stdout + done.stderr
    rows, below = reported(done.stdout)
    assert "Traceback" not in everything and not done.stderr, everything
    assert environment.secret not in everything
    expected = {name for name, (how, _) in environment.rows.items() if how == "FAIL"}
    assert {name for name, (how, _) in rows.items() if how == "FAIL"} == expected, everything
    assert done.returncode == (1 if expected else 0)
    for name, (how, words) in environment.rows.items():
        assert rows[name][0] == how, everything
        for part in world.filled(words).split("|"):
            assert part in rows[name][1] + below, f"{part!r} is not in:\n{everything}"
        assert how == "ok" or f"\n{name}: " in f"\n{below}", f"{name} does not say what to do:\n{everything}"


def test_the_table_has_at_least_twenty_five_environments_in_each_run_of_the_tests() -> None:
    assert len([each for each in ENVIRONMENTS if each.short]) >= 25
    assert len({each.name for each in ENVIRONMENTS}) == len(ENVIRONMENTS)
