"""Languages as people say them on a card."""

LANGUAGE = r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}"
"""The common forms of BCP 47 (RFC 5646)."""
