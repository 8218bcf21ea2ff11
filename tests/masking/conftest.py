"""Small models, one thread; and engines of both kinds: in numpy and torch, and with passes in C."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from enclave.masking import native
from enclave.masking.masked import MaskedEngine
from enclave.slicing import placement

KERNELS = Path(__file__).parents[2] / "kernels"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def compiler() -> str:
    """The C compiler's name, where there is one."""
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        pytest.skip("there is no C compiler here")
    return found


@pytest.fixture(scope="session")
def kernels(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The libraries of this tree, built as its wheel builds them."""
    folder = tmp_path_factory.mktemp("kernels with a blank")
    build = [sys.executable, KERNELS / "recipe.py", "--libraries", "--into", folder]
    subprocess.run(build, check=True)
    return folder


def _engine(request: pytest.FixtureRequest) -> type[MaskedEngine]:
    if request.param == "portable":
        return MaskedEngine
    return native.with_passes(request.getfixturevalue("kernels") / "passes.so")


@pytest.fixture(params=["portable", "native"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[MaskedEngine]:
    """What makes an engine, each kind in turn; `offload` takes it, too."""
    make = _engine(request)
    monkeypatch.setattr(placement, "engine_of_release", lambda native: make)
    return make


@pytest.fixture(scope="module", params=["portable", "native"])
def each_engine(request: pytest.FixtureRequest) -> type[MaskedEngine]:
    """The same for a whole module, to be handed to `offload`."""
    return _engine(request)
