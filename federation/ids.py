"""Short identifiers for rows that people and manifests name."""

from uuid import uuid4


def new_id() -> str:
    """Twelve hex digits (48 random bits): unique here, short enough to read out on the telephone."""
    return uuid4().hex[:12]
