"""What an enclave program loads: each is started for real, carries out a short run, and tells at its end
which of our modules were in it."""

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from attestation.measured import PROGRAMS, TREE, modules_of
from contracts.manifest import Masking, Training
from enclave_host import process as host
from enclave_host.closure import count
from tests.programs.own_slices import OwnSlices
from tests.programs.split_house import SplitRun, split_manifest

SITES = ("anna", "berta")
RUNNER = Path(__file__).parent / "loaded.py"
BUDGETS = {
    "aggregator": 4_551,
    "client_slice all_in_tee": 4_598,
    "client_slice masked": 5_987,
    "split_server": 4_514,
}
HARDWARE = "attestation/sources/gramine.py"
DEVELOPMENT = (
    "attestation/development_quoting/",
    "attestation/sources/development.py",
    "attestation/measurement.py",
)
"""What plays a processor here, and what stands in its place on SGX: counted apart."""
DEVELOPMENT_BUDGET = 289
ONE_ROUND = Training(rounds=1, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7)


@pytest.fixture(scope="module")
def loaded(house, tmp_path_factory, consortium_class):
    """By program and placement: the files of ours, and the top-level names, that were loaded at the end."""

    def command(program, _runtime, mailbox):
        return [sys.executable, str(RUNNER), program, "--mailbox", str(mailbox)]

    def consortium(manifest):
        return consortium_class(house, tmp_path_factory.mktemp("loaded") / "run", manifest)

    @cache
    def tell(run):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(host, "command", command)
            return RUNS[run](house, consortium)

    return tell


def aggregator(house, make):
    run = make(house.manifest(training=ONE_ROUND))
    program = run.aggregator()
    OwnSlices(run, program).whole_run()
    return _ended(run, program)


def client_slice(house, make, **placement):
    run = make(house.manifest(training=ONE_ROUND, **placement))
    client = run.client("anna", run.aggregator())
    client.call("train", round=1, previous=None)
    return _ended(run, client)


def masked_slice(house, make):
    return client_slice(house, make, placement="masked", masking=Masking(repetitions=1, vault_bytes=200_000))


def split_server(house, make):
    run = make(split_manifest(house, training=ONE_ROUND))
    sites = SplitRun(run, run.folder)
    server = sites.server()
    for site in SITES:
        sites.join(server, site)
    sites.rounds(server)
    return _ended(run, server)


RUNS = {
    "aggregator": aggregator,
    "client_slice all_in_tee": client_slice,
    "client_slice masked": masked_slice,
    "split_server": split_server,
}


def _ended(run, process) -> dict:
    process.stop()
    reported = json.loads((process.mailbox.folder / "loaded.json").read_text())
    run.close()
    return reported


@pytest.mark.parametrize("run", RUNS)
def test_a_program_loads_nothing_of_ours_that_is_not_measured(loaded, run):
    files = loaded(run)["ours"]
    assert f"enclave/programs/{run.split()[0]}.py" in files
    assert not set(files) - set(modules_of(run.split()[0])) - {"tests/programs/loaded.py"}


@pytest.mark.parametrize("run", RUNS)
def test_a_program_stays_within_its_line_budget(loaded, run):
    """Our lines that were really loaded, without blanks, comments and docstrings, as on SGX: the part of the
    processor, which a program plays in development alone, is counted apart. A larger program is a larger
    review for every hospital: find what does not belong there before you raise a number."""
    ours = [file for file in loaded(run)["ours"] if not file.startswith("tests/")]
    played = [file for file in ours if file.startswith(DEVELOPMENT)]
    assert 0 < count(played) <= DEVELOPMENT_BUDGET
    assert count({*ours, HARDWARE}.difference(played)) <= BUDGETS[run]


@pytest.mark.parametrize("run", RUNS)
def test_a_run_that_lets_nothing_out_loads_no_way_to(loaded, run):
    ways = {"releasing", "afterwards", "serving"}
    assert not {f"enclave/programs/{name}.py" for name in ways} & set(loaded(run)["ours"])


@pytest.mark.parametrize("run", [run for run in RUNS if run != "aggregator"])
def test_no_program_loads_a_compiler_or_what_its_lock_does_not_name(loaded, run):
    names = set(loaded(run)["names"])
    assert {"torch", "transformers"} <= names
    assert not {"sympy", "mpmath", "peft", "accelerate", "scipy", "sklearn"} & names


def test_outside_of_masked_no_client_slice_loads_what_masks(loaded):
    def masking(run):
        return {file for file in loaded(run)["ours"] if file.startswith("enclave/masking/")}

    assert masking("client_slice masked")
    assert not masking("client_slice all_in_tee")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_would_load_more_than_is_measured_ends_before_it_greets(program, tmp_path):
    """A copy of the tree whose list lacks one module that the program imports."""
    for package in ("contracts", "attestation", "enclave"):
        shutil.copytree(TREE / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    listed = tmp_path / "enclave" / "measured" / f"{program}.modules"
    listed.write_text(listed.read_text().replace("enclave/programs/mailbox.py\n", ""))
    done = _start(program, tmp_path)
    assert done.returncode == 1
    assert "program.not_measured" in done.stderr and "enclave.programs.mailbox" in done.stderr


def test_a_file_of_the_tree_cannot_be_imported_later_either(tmp_path):
    """Neither a module of ours that is not listed, nor one that takes the name of a package."""
    (tmp_path / "probe.py").write_text(
        "import logging, sys\nfrom attestation import guard\nlogging.basicConfig()\n"
        "guard.install('aggregator')\n"
        "import json, msgspec, contracts.roster\nprint('measured', flush=True)\n__import__(sys.argv[1])\n"
        "print('loaded')\n"
    )
    for name, whole in (("enclave_host.process", False), ("manage", False), ("safetensors", True)):
        done = subprocess.run(
            [sys.executable, str(tmp_path / "probe.py"), name],
            cwd=TREE,
            env={"PYTHONPATH": str(TREE)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == (["measured", "loaded"] if whole else ["measured"]), done.stderr
        assert ("program.not_measured" in done.stderr) is not whole


def _start(program, tree):
    return subprocess.run(
        [sys.executable, "-m", f"enclave.programs.{program}", "--mailbox", str(tree)],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
