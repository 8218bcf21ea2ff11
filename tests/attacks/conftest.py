"""What attackers start from: the consortium of tests/programs, and a machine whose TEE has no sealing key."""

from __future__ import annotations

import shutil

import pytest

from attestation.development import create_platform, install_platform, issue_platform
from contracts.manifest import Masking
from tests.jobs.bucket_scene import bucket as bucket
from tests.jobs.bucket_scene import storage as storage
from tests.programs.conftest import (  # noqa: F401 (fixtures of the attacks as well)
    Consortium,
    code_of,
    consortium_class,
    house,
    refusal_of,
)

KEYLESS = "keyless"
"""The host whose platform is as a TDX machine is: no key outlives an enclave."""


@pytest.fixture(scope="module")
def masked(house, tmp_path_factory):  # noqa: F811
    """A masked run before its first round: an aggregator, and anna's slice, which has loaded nothing. The
    model lies where its host may write to it at any time."""
    folder = tmp_path_factory.mktemp("masked")
    manifest = house.manifest(placement="masked", masking=Masking(vault_bytes=1 << 24))
    made = Consortium(house, folder / "run", manifest)
    made.model = folder / "model"
    shutil.copytree(house.model, made.model)
    try:
        made.anna = made.client("anna", made.aggregator(), load=False)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def keyless(house, tmp_path_factory) -> str:  # noqa: F811
    folder = tmp_path_factory.mktemp("keyless")
    request = create_platform(folder)
    install_platform(folder, issue_platform(house.root, request))
    (folder / "sealing.secret").write_bytes(b"")
    house.platforms[KEYLESS] = folder
    return KEYLESS
