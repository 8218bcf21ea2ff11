"""One workshop for the folder: tests change copies of what it makes, never the installation itself."""

import pytest

from tests.attest.workshop import Workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))
