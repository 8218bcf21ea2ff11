"""Development evidence: a root per installation that signs the same binary structures as Intel's.

It proves nothing about hardware, and every name in it says so. What it is good for: that all code which
makes, carries, appraises, logs and re-verifies evidence is the code that runs with hardware
(docs/decisions/0005-development-evidence.md).

The coordinator plays Intel's provisioning service: `create_root`, `issue_platform`, `revoke_platform`,
`collateral`. A host (supervisor or site) plays the processor: `create_platform`, `install_platform`,
`load_platform`.
"""

from attestation.development.collateral import collateral
from attestation.development.enrolment import create_platform, install_platform, platform_root_sha256, tee_of
from attestation.development.root import (
    create_root,
    issue_platform,
    revoke_platform,
    root_der,
    root_sha256,
)
from attestation.development_quoting.platform import DevelopmentPlatform, load_platform

__all__ = [
    "DevelopmentPlatform",
    "collateral",
    "create_platform",
    "create_root",
    "install_platform",
    "issue_platform",
    "load_platform",
    "platform_root_sha256",
    "revoke_platform",
    "root_der",
    "root_sha256",
    "tee_of",
]
