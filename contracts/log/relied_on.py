"""What an entry of the log must say of the thing that somebody relies on. Pure: contracts/log/proof.py has
shown that it is in the log."""

from __future__ import annotations

from typing import Any

import msgspec

from contracts.evidence import Claims
from contracts.manifest import Manifest
from contracts.refusal import Refusal

APPRAISED = ("manifest", "program", "hpke_key", "signing_key")


def require_manifest_entry(body: dict[str, Any], manifest: Manifest) -> None:
    """It is of this manifest.

    Raises: `log.wrong_entry`.
    """
    if (body.get("manifest"), body.get("run")) != (manifest.hash, manifest.run):
        raise Refusal("log.wrong_entry", kind="manifest")


def require_appraisal_entry(body: dict[str, Any], claims: Claims) -> None:
    """The enclave with these keys was accepted in public.

    Raises: `log.wrong_entry`.
    """
    shown, appraisal = body.get("claims"), body.get("appraisal")
    own = msgspec.to_builtins(claims)
    same = isinstance(shown, dict) and all(shown.get(name) == own[name] for name in APPRAISED)
    if not same or not isinstance(appraisal, dict) or appraisal.get("verdict") != "accepted":
        raise Refusal("log.wrong_entry", kind="appraisal")
