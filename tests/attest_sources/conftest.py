"""One development installation for the whole folder: a root, and a host with a certified platform."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dcap_qvl
import pytest

from attestation import development
from attestation.development import DevelopmentPlatform

AT = 1_800_000_000  # 2027-01-15; any time in the root's life will do


@dataclass(frozen=True)
class Installation:
    root: Path
    host: Path
    chain: bytes
    platform: DevelopmentPlatform


@pytest.fixture(scope="session")
def install() -> Callable[[Path], Installation]:
    """Makes a new installation in a folder."""

    def make(folder: Path) -> Installation:
        root, host = folder / "development-root", folder / "platform"
        development.create_root(root)
        chain = development.issue_platform(root, development.create_platform(host))
        development.install_platform(host, chain)
        return Installation(root, host, chain, development.load_platform(host))

    return make


@pytest.fixture(scope="session")
def installation(
    install: Callable[[Path], Installation], tmp_path_factory: pytest.TempPathFactory
) -> Installation:
    """Shared and not to be changed by a test."""
    return install(tmp_path_factory.mktemp("installation"))


@pytest.fixture
def judge() -> Callable[..., dcap_qvl.VerifiedReport]:
    """dcap-qvl's verdict on a quote under an installation's development root; raises ValueError."""

    def verify(
        quote: bytes, installation: Installation, *, tee: str = "sgx", at: int = AT, collateral_at: int = AT
    ) -> dcap_qvl.VerifiedReport:
        collateral = development.collateral(installation.root, collateral_at, tee)
        return dcap_qvl.verify_with_root_ca(
            quote,
            dcap_qvl.QuoteCollateralV3.from_json(json.dumps(collateral)),
            development.root_der(installation.root),
            at,
        )

    return verify
