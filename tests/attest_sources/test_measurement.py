"""The development measurement changes with what the program can load, and with nothing else."""

import hashlib
import os
import shutil
import subprocess
import sys

import pytest
import rfc8785

from attestation import measurement
from attestation.measured import PROGRAMS, TREE, list_of, modules_of
from attestation.measurement import DOMAIN, PRODUCT_IDS, measure, measured_files
from contracts.refusal import Refusal

ALL = {"aggregator", "client_slice", "split_server"}
OUTSIDE = [
    "site_agent/cli.py",
    "transparency_log/bundle.py",
    "transparency_log/statements.py",
    "error_catalogue/programs.py",
    "frontend/templates/base.html",
    "federation/settings.py",
    "enclave_jobs/models.py",
    "enclave_host/process.py",
    "enclave_host/gramine/render.py",
    "requirements.txt",
    "requirements-site.txt",
    "docs/threat-model.md",
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the checkout. Other engineers edit the checkout; the copy stands still."""
    target = tmp_path_factory.mktemp("checkout") / "tree"
    for package in ("contracts", "attestation", "enclave"):
        shutil.copytree(TREE / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in OUTSIDE:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TREE / file, target / file)
    return target


@pytest.fixture
def copy(tree, tmp_path):
    """A fresh copy at another path, with other times."""
    target = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(tree, target, copy_function=shutil.copyfile)
    return target


def moved(tree, copy) -> set[str]:
    """The programs that the two trees measure differently."""
    return {program for program in PROGRAMS if measure(program, tree) != measure(program, copy)}


def test_place_times_modes_and_caches_do_not_change_it(tree, copy):
    for file in copy.rglob("*.py"):
        os.utime(file, (1, 1))
        file.chmod(0o600)
    cache = copy / "attestation" / "__pycache__"
    cache.mkdir()
    (cache / "policy.cpython-311.pyc").write_bytes(b"cached")
    (copy / "enclave" / "notes.txt").write_text("not code")
    assert moved(tree, copy) == set()


@pytest.mark.parametrize("file", OUTSIDE)
def test_a_change_outside_of_what_a_program_loads_moves_no_measurement(tree, copy, file):
    _change(copy / file)
    assert moved(tree, copy) == set()


INSIDE = {
    "contracts/manifest.py": ALL,
    "contracts/canonical.py": ALL,
    "attestation/guard.py": ALL,
    "enclave/__init__.py": ALL,
    "enclave/programs/wire.py": ALL,
    "enclave/programs/aggregator.py": {"aggregator"},
    "enclave/programs/rounds.py": {"aggregator"},
    "enclave/programs/client_slice.py": {"client_slice"},
    "enclave/programs/tail.py": {"split_server"},
    "enclave/programs/serving.py": {"split_server"},
    "enclave/training/loop.py": {"client_slice", "split_server"},
    "enclave/measured/aggregator.manifest.template": {"aggregator"},
    "enclave/measured/client_slice.packages": {"client_slice"},
}


@pytest.mark.parametrize("file", INSIDE)
def test_one_changed_line_moves_exactly_the_programs_that_can_load_it(tree, copy, file):
    _change(copy / file)
    assert moved(tree, copy) == INSIDE[file]


def test_each_file_of_each_closure_moves_exactly_its_programs(tree, copy):
    holders = {}
    for program in PROGRAMS:
        for path in modules_of(program, tree):
            holders.setdefault(path, set()).add(program)
    before = {program: measure(program, tree) for program in PROGRAMS}
    for path, programs in holders.items():
        content = (copy / path).read_bytes()
        _change(copy / path)
        found = {program for program in PROGRAMS if measure(program, copy) != before[program]}
        assert found == programs, path
        (copy / path).write_bytes(content)


def test_a_module_more_in_the_list_moves_its_program(tree, copy):
    with (copy / "enclave/measured/split_server.modules").open("a") as listed:
        listed.write("site_agent/cli.py\n")
    assert moved(tree, copy) == {"split_server"}


def test_an_unlisted_file_beside_a_listed_one_is_not_measured(tree, copy):
    """It cannot be loaded either: tests/programs/test_loaded.py."""
    (copy / "attestation" / "extra.py").write_text("")
    assert moved(tree, copy) == set()


def test_a_renamed_file_is_another_measurement(tree, copy):
    (copy / "attestation" / "own_quote.py").rename(copy / "attestation" / "renamed.py")
    for program in PROGRAMS:
        listed = copy / list_of(program)
        listed.write_text(listed.read_text().replace("attestation/own_quote.py", "attestation/renamed.py"))
    assert moved(tree, copy) == ALL


def test_each_program_has_its_own(tree):
    assert len({measure(program, tree) for program in PROGRAMS}) == 3
    assert len(set(PRODUCT_IDS.values())) == 3


@pytest.mark.parametrize(
    "file", [f"enclave/measured/aggregator.{kind}" for kind in ("modules", "packages", "manifest.template")]
)
def test_without_list_lock_or_template_there_is_no_measurement(copy, file):
    (copy / file).unlink()
    _missing(copy, file)


def test_a_listed_file_that_is_not_there_is_a_missing_input_of_the_measurement(copy):
    (copy / "attestation" / "quote.py").unlink()
    _missing(copy, "attestation/quote.py")


def _missing(copy, file):
    with pytest.raises(Refusal) as caught:
        measure("aggregator", copy)
    assert caught.value.code == "measurement.missing"
    assert caught.value.facts == {"file": file}


def test_an_auditor_can_recompute_it_from_the_printed_files(tree):
    """By the recipe in the module's text, with sha256 and a JSON canonicaliser only."""
    run = [sys.executable, "-m", "attestation.measurement", "split_server", "--tree", str(tree)]
    printed = subprocess.run([*run, "--files"], capture_output=True, text=True, check=True, cwd=TREE).stdout
    files = {}
    for line in printed.splitlines():
        sha, name = line.split("  ", 1)
        assert hashlib.sha256((tree / name).read_bytes()).hexdigest() == sha
        files[name] = sha
    expected = hashlib.sha256(
        rfc8785.dumps({"domain": DOMAIN, "files": files, "program": "split_server"})
    ).hexdigest()
    output = subprocess.run(run, capture_output=True, text=True, check=True, cwd=TREE).stdout
    assert output == f"{expected}  split_server\n"


def test_it_covers_the_code_that_measures_and_the_guard(tree):
    files = measured_files("aggregator", tree)
    assert {"attestation/measurement.py", "attestation/guard.py", "contracts/canonical.py"} <= set(files)
    beside = {f"enclave/measured/aggregator.{kind}" for kind in ("modules", "packages", "manifest.template")}
    assert {name for name in files if not name.endswith(".py")} == beside


def test_the_command_prints_one_line_a_program_and_fails_on_a_broken_tree(tree, copy, capsys):
    assert measurement.main(["--tree", str(tree)]) == 0
    assert capsys.readouterr().out == "".join(f"{measure(p, tree)}  {p}\n" for p in PROGRAMS)
    (copy / "enclave/measured/aggregator.packages").unlink()
    assert measurement.main(["aggregator", "--tree", str(copy)]) == 1
    assert "measurement.missing" in capsys.readouterr().err


def _change(path):
    with path.open("ab") as target:
        target.write(b"#")
