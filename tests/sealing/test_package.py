"""A package is a few plain files in a zip; anything else is refused by its code, whatever was done to it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.refusal import Refusal
from contracts.sealed.package import ABOUT, HEAD, README, unpack, zipped

FILES = {README: b"how to load it", ABOUT: b"{}", HEAD: bytes(200)}
WHOLE = zipped(FILES)


def test_what_was_packed_comes_out_again_and_the_same_files_give_the_same_bytes() -> None:
    assert unpack(WHOLE) == FILES
    assert zipped(dict(reversed(FILES.items()))) == WHOLE


@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, len(WHOLE)),
)
def test_no_change_to_it_does_anything_but_be_refused(changes: list[tuple[int, int]], end: int) -> None:
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    for raw in (bytes(data), bytes(data[:end])):
        with contextlib.suppress(Refusal):
            unpack(raw)


def test_each_bit_of_it_may_flip() -> None:
    for bit in range(8 * len(WHOLE)):
        data = bytearray(WHOLE)
        data[bit // 8] ^= 1 << bit % 8
        try:
            unpack(bytes(data))
        except Refusal as refusal:
            assert refusal.code == "release.bad_package"


def test_files_that_are_enciphered_unknown_or_missing_are_refused() -> None:
    enciphered = bytearray(WHOLE)
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = -1
        while (place := WHOLE.find(header, place + 1)) >= 0:
            enciphered[place + flags] |= 1
    for data in (bytes(enciphered), zipped({**FILES, "more.py": b""}), zipped({HEAD: b""}), b""):
        with pytest.raises(Refusal, match=r"release\.bad_package"):
            unpack(data)
