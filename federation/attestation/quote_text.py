"""A quote that came as text: what it is, and how it becomes the raw quote again. It is named, not guessed at:
whoever judges bytes must judge those that he was given."""

from __future__ import annotations

import codecs
import re
import shlex

# A raw quote is no text: its second byte is zero.
_HEX = re.compile(rb"(?:0x)?[0-9a-fA-F]+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]+={0,2}")


def text_instead(data: bytes, path: str) -> str | None:
    """What the file at `path` holds instead of a raw quote, with the way out; None where it is no text."""
    text, name = _plain(data), shlex.quote(path)
    if text[:1] in (b"{", b"[", b'"'):
        return "JSON, not the raw quote. Take the quote out of it and decode it: there it is base64 or hex"
    if text.startswith(b"-----BEGIN"):
        return "PEM, not the raw quote. Decode what stands between its first line and its last"
    if _HEX.fullmatch(text):
        return f"hex, not the raw quote. Decode it first: xxd -r -p {name} quote.bin"
    if _BASE64.fullmatch(text):
        return f"base64, not the raw quote. Decode it first: base64 -d -i {name} > quote.bin"
    if _BASE64URL.fullmatch(text):
        turned = f"tr -- '-_' '+/' < {name} | base64 -d -i > quote.bin"
        return f"base64 (the form for URLs), not the raw quote. Decode it first: {turned}"
    return None


def _plain(data: bytes) -> bytes:
    """Without blanks, and without the mark and the zero bytes of what a shell on Windows wrote."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            data = data[2:].decode(encoding, "replace").encode("ascii", "replace")
    return b"".join(data.removeprefix(codecs.BOM_UTF8).split())
