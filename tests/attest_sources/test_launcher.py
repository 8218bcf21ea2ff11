"""The launcher as a process: what it writes where the kernel's interfaces are, and what it then becomes.

What is played: sysfs, by a file that the launcher appends to. The registers' arithmetic is the kernel's and
the TDX module's, so it is not shown here.
"""

import ast
import json
import shutil
import subprocess
import sys

import pytest

from attestation.development_quoting.trust_domain import EVENT_LOG, FOLDER, REGISTER, REPORTS, rtmr3
from attestation.measured import PROGRAMS, TREE
from attestation.trust_domain import launch_of, main, rtmr3_of
from contracts.canonical import canonical
from enclave_host.tdx.development import LAUNCHER, boot, launch

# Stands in a copy of the tree for a program: what it was given, told to its mailbox.
PROBE = """
import json, os, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
told = {"argv": sys.orig_argv, "environment": dict(os.environ), "path": sys.path,
        "privileges": [status[name].strip() for name in ("CapEff", "CapPrm", "CapInh", "NoNewPrivs")],
        "files": sorted(os.listdir("/proc/self/fd"))}
open(os.path.join(sys.argv[2], "told.json"), "w").write(json.dumps(told))
"""


@pytest.fixture
def mailbox(tmp_path):
    folder = tmp_path / "mailbox"
    folder.mkdir()
    boot(folder)
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the enclave's code in which the split server is the probe."""
    folder = tmp_path_factory.mktemp("tree")
    for package in ("contracts", "attestation", "enclave"):
        shutil.copytree(TREE / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "enclave" / "programs" / "split_server.py").write_text(PROBE)
    (folder / "enclave" / "programs" / "__init__.py").write_text("")
    return folder


def start(tree, mailbox, program="split_server"):
    command = launch(program, sys.executable, mailbox)
    command[command.index(str(LAUNCHER))] = str(tree / "enclave" / "launcher.py")
    return subprocess.run(command, env={"SECRET": "of the host"}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("program", PROGRAMS)
def test_its_event_is_what_the_verifier_expects_of_the_installed_packages(program):
    """Computed twice: by the launcher, which knows the standard library alone, and by ours."""
    asked = f"import sys; sys.path[:0] = ['enclave']; import launcher; print(launcher.event_of({program!r}))"
    said = subprocess.run(
        [sys.executable, "-I", "-c", asked.replace("'enclave'", repr(str(TREE / "enclave")))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ast.literal_eval(said.stdout) == canonical(launch_of(program))


def test_the_program_is_measured_before_it_runs_and_the_second_start_shows(tree, mailbox):
    done = start(tree, mailbox)
    assert done.returncode == 0, done.stderr
    folder = mailbox / FOLDER
    event = canonical(launch_of("split_server", tree))
    assert (folder / EVENT_LOG).read_bytes() == event + b"\n"
    assert rtmr3(folder).hex() == rtmr3_of("split_server", tree) != rtmr3_of("split_server")
    start(tree, mailbox)
    assert rtmr3(folder).hex() != rtmr3_of("split_server", tree)
    assert (folder / EVENT_LOG).read_bytes() == (event + b"\n") * 2


def test_the_program_has_no_privileges_no_open_files_and_nothing_of_the_hosts_environment(tree, mailbox):
    start(tree, mailbox)
    reported = json.loads((mailbox / "told.json").read_text())
    named = ["python3" if word == sys.executable else word for word in reported["argv"]]
    assert named == [word.replace("MAILBOX", str(mailbox)) for word in launch_of("split_server").argv]
    none = "0" * 16
    assert reported["privileges"] == [none, none, none, "1"]
    assert reported["files"] == ["0", "1", "2", "3"]  # the last is the listing's own
    assert "SECRET" not in reported["environment"] and reported["environment"]["PYTHONPATH"] == str(tree)
    assert str(mailbox) not in reported["path"] and "" not in reported["path"]
    assert (mailbox / FOLDER / REPORTS).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("missing", [REGISTER, REPORTS])
def test_where_it_cannot_measure_or_lock_down_nothing_runs(tree, mailbox, missing):
    place = mailbox / FOLDER / missing
    place.rmdir() if place.is_dir() else place.unlink()
    assert start(tree, mailbox).returncode != 0
    assert not (mailbox / "told.json").exists()


def test_a_file_that_is_listed_and_missing_ends_it(tree, mailbox):
    (tree / "enclave" / "measured" / "aggregator.packages").unlink()
    assert start(tree, mailbox, "aggregator").returncode != 0
    assert not (mailbox / FOLDER / EVENT_LOG).exists()
    assert rtmr3(mailbox / FOLDER) == bytes(48)


def test_it_imports_the_standard_library_alone():
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(LAUNCHER.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= set(sys.stdlib_module_names)


def test_an_auditor_prints_the_register_and_the_event(capsys):
    assert main(["aggregator"]) == 0
    assert capsys.readouterr().out == f"{rtmr3_of('aggregator')}  aggregator\n"
    assert main(["aggregator", "--event"]) == 0
    assert json.loads(capsys.readouterr().out)["program"] == "aggregator"
    assert main(["aggregator", "--tree", "/nowhere"]) == 1
