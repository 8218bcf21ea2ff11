"""What works on strangers' models has bounds, no secret and no network, and takes nobody along as it ends."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from contracts.refusal import Refusal
from enclave_host.bounded import ChildLimits, run_bounded
from enclave_host.child_calls import ChildProgress
from error_catalogue import CATALOGUE
from tests.support.telling_child import CALL, Do, Has


def child(do: str, tell: Any = None, **limits: int) -> Has:
    return run_bounded(CALL, Do(do), ChildLimits(**{"memory": 256 << 20, "seconds": 60, **limits}), tell)


def test_a_child_has_no_secret_no_network_and_no_folder_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSLICE_SUPERVISOR_TOKEN", "not for children")
    monkeypatch.setenv("HF_TOKEN", "nor this")
    heard: list[Any] = []
    reported = child("print", heard.append)
    assert heard == [ChildProgress("here")]
    assert not {"FEDSLICE_SUPERVISOR_TOKEN", "HF_TOKEN"} & set(reported.environment)
    if subprocess.run(["unshare", "--map-root-user", "--net", "true"]).returncode == 0:
        assert reported.interfaces == ["lo"]  # of a namespace of its own, and down
    assert reported.core == 0 and not Path(reported.home).exists()


@pytest.mark.parametrize(
    ("do", "limits", "code"),
    [
        ("die", {}, "child.killed"),
        ("sleep", {"seconds": 2}, "child.timeout"),
        ("eat", {}, "child.memory"),
        ("fill", {"disk": 1 << 20}, "child.no_room"),
        ("exit", {}, "child.failed"),
        ("lie", {}, "child.failed"),
        ("curse", {}, "model.file_missing"),
    ],
)
def test_each_end_of_a_child_is_a_refusal_of_its_own(do: str, limits: dict[str, int], code: str) -> None:
    with pytest.raises(Refusal) as caught:
        child(do, **limits)
    assert caught.value.code == code and code in CATALOGUE
