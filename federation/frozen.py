"""A manifest as it was frozen, by this version of FedSlice or by an older one.

What an older version froze lacks what manifests say today, or says what they no longer do. Its hash still
names it, so it can be read and shown for ever; nothing may run by it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

from contracts.manifest import Manifest, parse
from contracts.refusal import Refusal


class Bound(Protocol):
    """A row that a manifest was frozen for: a study, or one of its runs."""

    @property
    def manifest(self) -> str | None: ...

    @property
    def manifest_hash(self) -> str: ...


@dataclass(frozen=True)
class Frozen:
    """The manifest of a study or run for whoever reads it. `fault` is None where this version can run it."""

    text: str
    hash: str

    @cached_property
    def said(self) -> dict[str, Any]:
        """The manifest's JSON; {} where there is none that can be read."""
        try:
            said = json.loads(self.text)
        except ValueError:
            return {}
        return said if isinstance(said, dict) else {}

    def at(self, *path: str) -> Any:
        """What it says at a path, e.g. `at("training", "rounds")`; None where it says nothing."""
        value: Any = self.said
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def all_at(self, *path: str) -> list[dict[str, Any]]:
        """The objects of the list at a path; none where there is no list."""
        value = self.at(*path)
        return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []

    @cached_property
    def names(self) -> dict[str, str]:
        """Id of each member -> its name."""
        return {str(site.get("id")): str(site.get("name")) for site in self.all_at("sites")}

    @cached_property
    def parsed(self) -> Manifest | Refusal:
        """As this version reads it, or why it cannot."""
        try:
            return read_manifest(self.text, self.hash)
        except Refusal as refusal:
            return refusal

    @property
    def manifest(self) -> Manifest | None:
        """As this version reads it."""
        return self.parsed if isinstance(self.parsed, Manifest) else None

    @property
    def fault(self) -> Refusal | None:
        """Why nothing can run by it: `manifest.older_format`, or `manifest.hash_mismatch` where it is not
        what was frozen."""
        return self.parsed if isinstance(self.parsed, Refusal) else None


@lru_cache(maxsize=32)
def read_manifest(text: str, expected: str) -> Manifest:
    """The manifest with this text, whose hash is the one expected. Each step of a run asks for its manifest
    several times, and one of a thousand sites takes long to read. What was frozen does not change, and a
    parsed manifest cannot; what is refused is not kept.

    Raises: `manifest.hash_mismatch` or `manifest.older_format`.
    """
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != expected:
        raise Refusal("manifest.hash_mismatch", found=found, expected=expected)
    try:
        return parse(text.encode())
    except Refusal as refusal:
        # It was checked when it was frozen, and its hash is the same: the format is another.
        raise Refusal("manifest.older_format") from refusal


def frozen(row: Bound) -> Frozen:
    """The manifest of this study or run, for reading."""
    return Frozen(row.manifest or "", row.manifest_hash)


def manifest_of(row: Bound) -> Manifest:
    """The frozen manifest, to act by.

    Raises: `manifest.hash_mismatch` or `manifest.older_format`.
    """
    parsed = frozen(row).parsed
    if isinstance(parsed, Refusal):
        raise parsed
    return parsed
