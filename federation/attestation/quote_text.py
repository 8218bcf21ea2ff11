"""A quote that came as text or packed: what it is, and how it becomes the raw quote again. It is named, not
guessed at: whoever judges bytes must judge those that they were given."""

from __future__ import annotations

import codecs
import re
import shlex

# A raw quote is no text: its second byte is zero.
_HEX = re.compile(rb"(?:0x)?[0-9a-fA-F]+")
_BYTES = re.compile(rb"(?:(?:0x|\\x)?[0-9a-fA-F]{2}[:,;-]?)+")
_DUMP = re.compile(rb"0{4,16}:? +(?:[0-9a-fA-F]{2,8} +){4}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]+={0,2}")


def text_instead(data: bytes, path: str) -> str | None:
    """What the file at `path` holds instead of a raw quote, with the way out; None where it may be one."""
    text, name = _plain(data), shlex.quote(path)
    if data.startswith(b"\x1f\x8b"):
        return f"compressed with gzip, not the raw quote. Unpack it first: gzip -dc < {name} > quote.bin"
    if text[:1] in (b"{", b"[", b'"'):
        return "JSON, not the raw quote. Take the quote out of it and decode it: there it is base64 or hex"
    if text.startswith(b"-----BEGIN"):
        return "PEM, not the raw quote. Decode what stands between its first line and its last"
    if _HEX.fullmatch(text):
        return f"hex, not the raw quote. Decode it first: xxd -r -p {name} quote.bin"
    if _BASE64.fullmatch(text):
        return f"base64, not the raw quote. Decode it first: base64 -d -i {name} > quote.bin"
    if _BASE64URL.fullmatch(text):
        missing = "=" * (-len(text) % 4)  # which this form leaves out
        turned = f"(tr -- '-_' '+/' < {name}; printf '{missing}') | base64 -d -i > quote.bin"
        return f"base64 (the form for URLs), not the raw quote. Decode it first: {turned}"
    if _DUMP.match(data):
        return f"a hex dump, not the raw quote. Where xxd made it: xxd -r {name} quote.bin"
    if _BYTES.fullmatch(text):
        return (
            "hex, not the raw quote. Take away what stands between the bytes, then: xxd -r -p FILE quote.bin"
        )
    if text and text.isascii() and text.decode("ascii").isprintable():
        return "text, not the raw quote, which has zeros in its first bytes. Decode what it holds"
    return None


def _plain(data: bytes) -> bytes:
    """Without blanks, and without the mark and the zero bytes of what a shell on Windows wrote."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            data = data[2:].decode(encoding, "replace").encode("ascii", "replace")
    return b"".join(data.removeprefix(codecs.BOM_UTF8).split())
