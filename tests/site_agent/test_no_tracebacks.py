"""No traceback reaches a person: a broken environment has its code, what is unforeseen a reference."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from shlex import quote

import pytest

from contracts.refusal import Refusal
from error_catalogue import CATALOGUE
from error_catalogue.last_resort import LOG
from site_agent import cli
from site_agent.state import State
from tests.support import namespaces

TREE = Path(__file__).resolve().parents[2]


def agent(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The agent as a process of its own, in an environment of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "site_agent", *words],
        cwd=TREE, env=kept | environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


OUTSIDE = ["--log-key", "7Q2M-90KD-7Q2M-90KD-7Q2M-90KD", "--development-approval-key"]
"""What else `enrol` wants to be told."""
BROKEN: list[tuple[dict[str, str], str]] = [
    ({"NO_PROXY": "fd00::/8", "HTTPS_PROXY": "http://127.0.0.1:9"}, "cannot be reached"),
    ({"NO_PROXY": "[::1]", "HTTPS_PROXY": "http://127.0.0.1:9"}, "cannot be reached"),
    ({"ALL_PROXY": "socks://127.0.0.1:9"}, "The proxy in ALL_PROXY is of the kind socks"),
    ({"HTTPS_PROXY": "socks5://127.0.0.1:9"}, "The proxy in HTTPS_PROXY is of the kind socks5"),
    ({"HTTPS_PROXY": "http://proxy:port"}, "The proxy in HTTPS_PROXY is not an address"),
    ({"SSL_CERT_FILE": "/nowhere.pem"}, "SSL_CERT_FILE names /nowhere.pem, which cannot be read"),
    ({"SSL_CERT_DIR": "/nowhere"}, "SSL_CERT_DIR names /nowhere, which cannot be read"),
    (
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "ALL_PROXY": "socks://é"},
        "ALL_PROXY",
    ),
]


@pytest.fixture(scope="module")
def enrolments(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Future[subprocess.CompletedProcess[str]]]]:
    """An enrolment in each broken environment, side by side: an agent tries for a while before it says that
    the coordinator cannot be reached."""
    with ThreadPoolExecutor(4) as pool:
        yield [
            pool.submit(
                agent,
                *("--state", str(tmp_path_factory.mktemp("broken") / "state"), "enrol"),
                *("--coordinator", "https://127.0.0.1:9", "--token", "x" * 43, *OUTSIDE),
                environment=environment,
            )
            for environment, _words in BROKEN
        ]


@pytest.mark.parametrize(("number", "words"), [(n, words) for n, (_, words) in enumerate(BROKEN)], ids=str)
def test_a_broken_environment_names_its_variable(
    enrolments: list[Future[subprocess.CompletedProcess[str]]], number: int, words: str
) -> None:
    done = enrolments[number].result()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and words in done.stderr, done.stderr


def test_a_read_only_place_is_named(tmp_path: Path) -> None:
    done = agent("--state", "/proc/fedslice", "dataset", "list", environment={})
    assert done.returncode == 1 and "Traceback" not in done.stderr and "/proc/fedslice" in done.stderr


def test_a_folder_that_is_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").symlink_to("state")
    with pytest.raises(Refusal, match="a link that leads to itself"):
        State.open(tmp_path / "state")


def test_an_ascii_terminal_shows_what_it_lacks_as_escapes_and_the_command_goes_on(tmp_path: Path) -> None:
    rows = "".join(f"a note number {n},g\u00e9n\u00e9ral {n % 2}\n" for n in range(30))
    (tmp_path / "notes.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    add = ["--state", str(tmp_path / "state"), "dataset", "add", str(tmp_path / "notes.csv"), "--no-publish"]
    named = ["--text-column", "text", "--label-column", "label"]
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = agent(*add, *named, environment=ascii_only)
    assert done.returncode == 0 and "g\\xe9n\\xe9ral 1" in done.stdout, done.stderr


def test_a_full_disk_is_named_and_half_a_dataset_does_not_stay(tmp_path: Path) -> None:
    rows = "".join(f"a note {n},l{n % 2}\n" for n in range(3000))
    (tmp_path / "notes.csv").write_text(f"text,label\n{rows}")
    state = tmp_path / "state"
    state.mkdir()
    place = quote(str(state))
    add = f"{namespaces.PYTHON} -m site_agent --state {place} dataset add {quote(str(tmp_path))}/notes.csv"
    named = "--text-column text --label-column label --no-publish"
    done = namespaces.shell(f"mount -t tmpfs -o size=100k t {place}; {add} {named}; ls {place}/*")
    assert "Traceback" not in done.stderr and "[agent.no_space]" in done.stderr, done.stderr
    assert "draft" in done.stderr and "draft" not in done.stdout


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (">/dev/full", "The disk that holds the standard output is full"),
        ("| head -1", ""),
        (">&- 2>&-", ""),
        ("<&-", ""),
    ],
)
def test_an_output_that_takes_no_more_is_said_in_words_or_not_at_all(
    tmp_path: Path, how: str, words: str
) -> None:
    state = quote(str(tmp_path / "state"))
    command = f"{namespaces.PYTHON} -m site_agent --state {state} dataset list {how}"
    done = subprocess.run(["bash", "-c", command], cwd=TREE, capture_output=True, text=True, timeout=120)
    assert words in done.stderr and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert bool(done.stderr) == bool(words), done.stderr


def test_an_account_without_a_home_is_told_to_name_a_folder(tmp_path: Path) -> None:
    names = tmp_path / "nsswitch.conf"
    names.write_text("passwd: files\n")  # systemd's own source always knows root
    done = namespaces.shell(
        "mount --bind /dev/null /etc/passwd && unset HOME && "
        f"{{ ! test -e /etc/nsswitch.conf || mount --bind {quote(str(names))} /etc/nsswitch.conf; }} && "
        f"{namespaces.PYTHON} -m site_agent check"
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no home folder" in done.stderr and "--state" in done.stderr, done.stderr + done.stdout


@pytest.mark.parametrize(
    ("module", "reported", "hint"),
    [("pyarrow", "pyarrow is missing", "pip install"), ("fcntl", "[agent.windows]", "Linux")],
)
def test_a_package_that_is_missing_is_named_and_so_is_windows(module: str, reported: str, hint: str) -> None:
    without = (
        f"import runpy, sys; sys.modules['{module}'] = None; sys.argv = ['site_agent', 'check'];"
        "runpy.run_module('site_agent', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", without], cwd=TREE, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert reported in done.stderr and hint in done.stderr


def test_what_nobody_foresaw_is_one_line_with_a_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fall_over(*_: object) -> None:
        raise ZeroDivisionError("Mrs. Canary, born 1950")

    monkeypatch.setattr(cli, "State", type("Broken", (), {"open": staticmethod(fall_over)}))
    (tmp_path / "state").mkdir()
    assert cli.main(["--state", str(tmp_path / "state"), "check"]) == 1
    shown = capsys.readouterr().err
    kept = tmp_path / "state" / LOG
    assert "reference" in shown and str(kept) in shown and "Canary" not in shown and "Traceback" not in shown
    assert "ZeroDivisionError" in kept.read_text() and kept.stat().st_mode & 0o077 == 0


def test_an_agent_without_the_control_plane_can_explain_every_code() -> None:
    """Codes of the coordinator reach agents: a clock that is off, a suspended site, a used token."""
    script = (
        "import sys\n"
        "class Wall:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('federation', 'enclave_jobs', 'frontend', 'django'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Wall())\n"
        "import site_agent.cli\n"
        "from error_catalogue import CATALOGUE\n"
        "print(*sorted(CATALOGUE), sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=TREE, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == set(CATALOGUE)
    assert {"auth.clock", "auth.site_suspended", "enrolment.token_used"} <= set(CATALOGUE)
