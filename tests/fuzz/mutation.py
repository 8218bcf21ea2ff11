"""Bytes that are almost right: valid inputs, changed in their bytes or, where they are JSON, in values."""

from __future__ import annotations

import json
import random
from typing import Any

INTERESTING = (
    0, -1, 1, 255, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30,
    0.5, -0.0, 1e308, 1e-320, None, True, "", "\0", "\ud800", "é\u202e", "0" * 64, "f" * 128, "A" * 4096,
    "9999-12-31T23:59:59Z", [], {}, [[]], {"": None},
)  # fmt: skip
DEEP = b"[" * 20_000, b'{"a":' * 20_000
MAX_BYTES = 1 << 18


def mutated(seeds: list[bytes], draw: random.Random) -> bytes:
    """A seed with one to eight changes; half the time as JSON, where it is."""
    data = draw.choice(seeds)
    if draw.random() < 0.5:
        try:
            return _mutated_json(json.loads(data), draw)
        except (ValueError, RecursionError):
            pass
    for _ in range(1 << draw.randrange(4)):
        data = _changed(data, seeds, draw)
    return data[:MAX_BYTES]


def _changed(data: bytes, seeds: list[bytes], draw: random.Random) -> bytes:
    at = draw.randrange(len(data) + 1)
    end = min(len(data), at + (1 << draw.randrange(8)))
    other = draw.choice(seeds)
    cut = draw.randrange(len(other) + 1)
    return draw.choice(
        (
            lambda: data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :],
            lambda: (
                data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
                if at < len(data)
                else data
            ),
            lambda: data[:at] + data[end:],
            lambda: data[:end] + data[at:end] * draw.choice((1, 2, 50)) + data[end:],
            lambda: data[:at] + draw.randbytes(draw.choice((1, 2, 4, 8))) + data[at:],
            lambda: (
                data[:at]
                + draw.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff" * 8))
                + data[at + 4 :]
            ),
            lambda: data[:at] + other[cut : cut + 64] + data[at:],
            lambda: data[:at],
            lambda: data[:at] + draw.choice(DEEP) + data[end:],
        )
    )()


def _mutated_json(value: Any, draw: random.Random) -> bytes:
    for _ in range(1 << draw.randrange(3)):
        value = _replaced(value, draw)
    spelled = json.dumps(
        value, separators=draw.choice(((",", ":"), (", ", ": "))), ensure_ascii=draw.random() < 0.5
    )
    return spelled.encode("utf-8", "surrogatepass")


def _replaced(value: Any, draw: random.Random) -> Any:
    """The value with one place in it changed, any depth with the same chance of going on."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        name = draw.choice(list(value))
        kept = dict(value)
        act = draw.random()
        if act < 0.1:
            del kept[name]
        elif act < 0.2:
            kept[draw.choice(("", "more", name + "_", "__class__"))] = kept[name]
        else:
            kept[name] = _replaced(kept[name], draw)
        return kept
    if isinstance(value, list) and value and draw.random() < 0.9:
        at = draw.randrange(len(value))
        act = draw.random()
        if act < 0.1:
            return value[:at] + value[at + 1 :]
        if act < 0.2:
            return value + [value[at]] * draw.choice((1, 2, 300))
        return [*value[:at], _replaced(value[at], draw), *value[at + 1 :]]
    if isinstance(value, str) and value and draw.random() < 0.5:
        at = draw.randrange(len(value))
        return value[:at] + draw.choice(("", "0", "\0", "é", "\ud800", value[at] * 3)) + value[at + 1 :]
    return draw.choice(INTERESTING)
