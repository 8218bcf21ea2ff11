"""Every command that docs/operations.md shows is run: here, as it stands there; by another test, which is
named; or it is named with the reason why no test can. operators_commands.toml is the list.

What the page leaves open (FILE, PROGRAM) is filled in; nothing else is changed.
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.installation import REPOSITORY

LIST = tomllib.loads(Path(__file__).with_name("operators_commands.toml").read_text())
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
PROGRAMS = (
    "python|make|docker|openssl|ssh-keygen|pytest|systemctl|systemd-analyze|sha256sum|ps|pip|nice|gramine-sgx"
    r"|\.venv/bin/python|manage\.py|site_agent|restart"
)
A_COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:(?:{PROGRAMS})\S* \S|migrate --|\. \.venv)")
OF_THE_AGENT = re.compile(r"(?:approve|members|budget|approval-key|enrol|check|dataset) -?\S")
CONTINUED = re.compile(r"\\\n\s*")
INSTALLS = "the block that installs from /install"
QUICK = ("python manage.py log_key", "python -m enclave_host.gramine.render PROGRAM --help")
"""Those of `here` that `make test` runs too."""
FILES = {
    "FILE": "backup.tar",
    "OUT.zip": "out.zip",
    "SOURCE": "pickled",
    "NEW_FOLDER": "converted",
    "KEY": "enclave.key",
    "OWN": "own.key",
    "backup-key.pem": "backup-key.pem",
    "backup.pem": "backup.pem",
    "/media/offline/authority": "authority",
    "tail-2": "tail-2",
}
"""What the page leaves open, or keeps in the folder in which it is typed: names in the test's own."""
ASKED = ("openssl req", "openssl genrsa -aes256")
TYPED = "night-and-day\n"
"""What they, and `restore`, would ask at a terminal."""


def shown() -> set[str]:
    """Each command, without its comment and with single blanks."""
    text = (REPOSITORY / "docs" / "operations.md").read_text()
    found = list[str]()
    for block in BLOCK.findall(text):
        block = CONTINUED.sub("", block)
        found += [INSTALLS] if block.startswith("(") else block.splitlines()
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    quoted = [" ".join(each.split()) for each in QUOTED.findall(prose)]
    found += [each for each in quoted if A_COMMAND.match(each) or OF_THE_AGENT.match(each)]
    return {" ".join(re.split(r"\s{2,}#\s", each)[0].split()) for each in found if each.strip()}


def test_each_command_of_the_page_is_in_the_list_and_none_besides() -> None:
    listed = [*LIST["here"], *LIST["elsewhere"], *LIST["nowhere"]]
    assert len(listed) == len(set(listed))
    assert shown() - set(listed) == set(), "say in operators_commands.toml who runs it"
    assert set(listed) - shown() == set(), "the page does not show it any more"


def test_who_is_said_to_run_it_does() -> None:
    wrong = [
        command
        for command, (file, text) in LIST["elsewhere"].items()
        if not (REPOSITORY / file).is_file() or text not in (REPOSITORY / file).read_text()
    ]
    assert not wrong
    assert all(reason.strip() for reason in LIST["nowhere"].values())


def filled_in(command: str, folder: Path) -> str:
    """As a shell takes it, with the page's open words filled in."""
    names = {word: str(folder / name) for word, name in FILES.items()} | {"PROGRAM": "aggregator"}
    return " ".join(names.get(word, word) for word in command.split(" "))


def ran(command: str, folder: Path, state: Path) -> str:
    """What it says; it must end with 0."""
    line = filled_in(command, folder)
    for asks in ASKED:
        line = line.replace(asks, f"{asks} -passout pass:{TYPED.strip()}")
    environment = {
        **os.environ,
        "PATH": f"{REPOSITORY / '.venv' / 'bin'}:{os.environ['PATH']}",
        "FEDSLICE_STATE": str(state),
    }
    done = subprocess.run(
        ["bash", "-c", line], cwd=REPOSITORY, env=environment, input=TYPED, capture_output=True, text=True,
        timeout=600, check=False, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize("command", QUICK)
def test_quick_ones_run_as_the_page_shows_them(command: str, tmp_path: Path) -> None:
    assert command in LIST["here"]
    assert ran(command, tmp_path, tmp_path / "state")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_of_them_run_one_after_the_other(tmp_path: Path) -> None:
    pickled(tmp_path / "pickled")
    state = tmp_path / "state"
    for command in LIST["here"]:
        place = tmp_path / "elsewhere" if " restore " in command else state
        said = ran(command, tmp_path, place)
        if command.endswith("log_key"):
            (key,) = re.findall(r"^key\s+(\S.*)$", said, re.MULTILINE)
    ran(f"python manage.py verify_bundle OUT.zip --log-key '{key.strip()}'", tmp_path, state)
    assert (tmp_path / "tail-2" / "certificate.pem").is_file()
    assert (tmp_path / "elsewhere" / "log-key.json").read_bytes() == (state / "log-key.json").read_bytes()


def pickled(folder: Path) -> None:
    """A small BERT as its makers would publish it: `pytorch_model.bin`."""
    import torch
    from transformers import AutoModel

    from tests.jobs.driver import make_model

    make_model(folder)
    torch.save(AutoModel.from_pretrained(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
