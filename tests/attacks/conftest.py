"""What attackers start from: the consortium of tests/programs, and a machine whose TEE has no sealing key."""

from __future__ import annotations

import pytest

from attestation.development import create_platform, install_platform, issue_platform
from tests.programs.conftest import (  # noqa: F401 (fixtures of the attacks as well)
    code_of,
    consortium_class,
    house,
    refusal_of,
)

KEYLESS = "keyless"
"""The host whose platform is as a TDX machine is: no key outlives an enclave."""


@pytest.fixture(scope="session")
def keyless(house, tmp_path_factory) -> str:  # noqa: F811
    folder = tmp_path_factory.mktemp("keyless")
    request = create_platform(folder)
    install_platform(folder, issue_platform(house.root, request))
    (folder / "sealing.secret").write_bytes(b"")
    house.platforms[KEYLESS] = folder
    return KEYLESS
