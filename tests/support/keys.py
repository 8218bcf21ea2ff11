"""The approval keys of the sites that tests make up."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from contracts.kept_keys import signing_key, signing_secret
from contracts.signing import SigningKey
from site_agent.approval_key import Development
from site_agent.files import write_private


def approval_key(agent: SigningKey) -> SigningKey:
    """The key with which the hospital approves whose agent has the key `agent`."""
    return signing_key(hashlib.sha256(b"approval" + signing_secret(agent)).digest())


def keep_approval_key(folder: Path, agent: SigningKey) -> str:
    """Put it into a state folder, without a passphrase; its public half."""
    key = approval_key(agent)
    write_private(
        folder / "approval.key", msgspec.json.encode(Development(1, key.public, signing_secret(key).hex()))
    )
    return key.public
