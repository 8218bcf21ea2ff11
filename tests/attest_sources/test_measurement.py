"""The development measurement changes with the code, and with nothing else."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import rfc8785

from attestation import measurement
from attestation.measurement import DOMAIN, PRODUCT_IDS, PROGRAMS, TREE, measure, measured_files
from contracts.refusal import Refusal


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what is measured. Other engineers edit the checkout; the copy stands still."""
    target = tmp_path_factory.mktemp("checkout") / "tree"
    for package in measurement.PACKAGES:
        shutil.copytree(TREE / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TREE / "requirements-site.txt", target)
    return target


@pytest.fixture
def copy(tree, tmp_path):
    """A fresh copy at another path, with other times."""
    target = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(tree, target, copy_function=shutil.copyfile)
    return target


def test_place_times_modes_and_caches_do_not_change_it(tree, copy):
    before = measure("aggregator", tree)
    for file in copy.rglob("*.py"):
        os.utime(file, (1, 1))
        file.chmod(0o600)
    cache = copy / "attestation" / "__pycache__"
    cache.mkdir()
    (cache / "policy.cpython-311.pyc").write_bytes(b"cached")
    (copy / "enclave" / "notes.txt").write_text("not code")
    assert measure("aggregator", copy) == before


@pytest.mark.parametrize(
    "file",
    [
        "contracts/policy.py",
        "enclave/programs/wire.py",
        "enclave/__init__.py",
        "requirements-site.txt",
        "enclave/measured/aggregator.manifest.template",
    ],
)
def test_one_changed_byte_changes_it(tree, copy, file):
    with (copy / file).open("ab") as target:
        target.write(b"#")
    assert measure("aggregator", copy) != measure("aggregator", tree)


def test_an_added_a_removed_and_a_renamed_file_change_it(tree, copy):
    seen = {measure("aggregator", tree)}
    extra = copy / "attestation" / "extra.py"
    extra.write_text("")
    seen.add(measure("aggregator", copy))
    extra.rename(copy / "attestation" / "renamed.py")
    seen.add(measure("aggregator", copy))
    (copy / "attestation" / "renamed.py").unlink()
    assert measure("aggregator", copy) in seen
    (copy / "attestation" / "quote.py").unlink()
    seen.add(measure("aggregator", copy))
    assert len(seen) == 4


def test_each_program_has_its_own(tree, copy):
    assert len({measure(program, tree) for program in PROGRAMS}) == 3
    with (copy / "enclave/measured/aggregator.manifest.template").open("ab") as target:
        target.write(b"#")
    assert measure("client_slice", copy) == measure("client_slice", tree)
    assert len(set(PRODUCT_IDS.values())) == 3


@pytest.mark.parametrize("file", ["requirements-site.txt", "enclave/measured/aggregator.manifest.template"])
def test_without_template_or_requirements_there_is_no_measurement(copy, file):
    (copy / file).unlink()
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


def test_it_covers_the_code_that_measures(tree):
    files = measured_files("aggregator", tree)
    assert {"attestation/measurement.py", "attestation/sources.py", "contracts/canonical.py"} <= set(files)
    assert all(Path(name).suffix in (".py", ".txt", ".template") for name in files)


def test_the_command_prints_one_line_a_program_and_fails_on_a_broken_tree(tree, copy, capsys):
    assert measurement.main(["--tree", str(tree)]) == 0
    assert capsys.readouterr().out == "".join(f"{measure(p, tree)}  {p}\n" for p in PROGRAMS)
    (copy / "requirements-site.txt").unlink()
    assert measurement.main(["aggregator", "--tree", str(copy)]) == 1
    assert "measurement.missing" in capsys.readouterr().err
