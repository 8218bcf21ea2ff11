"""The digest of a dataset that a manifest names: HMAC-SHA-256 (RFC 2104) under a key of the site.

Without the key nobody can try whether a row, or a public collection, is in the dataset. The site's client
slice gets the key from the site's own agent. Whoever holds it cannot find other rows with the same digest,
nor another key that would fit them: that would be a collision of SHA-256.
"""

from __future__ import annotations

import hashlib
import hmac

DIGEST_DOMAIN = b"fedslice/dataset-digest/v1\x00"


def begin_digest(key: bytes) -> hmac.HMAC:
    """To be updated with the bytes of the normalised file, from its first to its last. `key` has 32 bytes."""
    digest = hmac.new(key, digestmod=hashlib.sha256)
    digest.update(DIGEST_DOMAIN)
    return digest
