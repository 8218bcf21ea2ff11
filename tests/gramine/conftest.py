"""Houses whose enclave programs are started by `gramine-direct`: the same manifests, keys and rows as in
tests/programs, on manifests rendered for Gramine. Without Gramine these tests are skipped, and say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.programs.conftest import Consortium, House

NOT_TRIED = "gramine-direct is not on the PATH: nothing was tried under Gramine itself"


class DirectHouse(House):
    """Its programs are started by `gramine-direct`."""

    runtime = "direct"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gramine cannot be brought along; where it is missing that is counted, in words."""
    if shutil.which("gramine-direct") is None:
        for item in items:
            if item.get_closest_marker("gramine"):
                item.add_marker(pytest.mark.skip(reason=NOT_TRIED))


@pytest.fixture(scope="session")
def direct_house(tmp_path_factory: pytest.TempPathFactory) -> DirectHouse:
    return DirectHouse(tmp_path_factory.mktemp("house"), ("anna", "berta", "clara"))


@pytest.fixture(scope="module")
def two_house(tmp_path_factory: pytest.TempPathFactory) -> DirectHouse:
    return DirectHouse(tmp_path_factory.mktemp("two"))


@pytest.fixture
def world(two_house: DirectHouse, tmp_path) -> Iterator[Consortium]:
    """A run without any change, closed at the end."""
    made = Consortium(two_house, tmp_path / "run")
    yield made
    made.close()
