"""The RFC 6962 tree agrees with the public vectors, and its own proofs with a tree computed the slow way."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.log import growth, merkle
from contracts.refusal import Refusal

VECTORS = Path(__file__).parents[2] / "../shared/merkle-vectors"


def vectors(kind: str) -> list[Path]:
    return sorted((VECTORS / kind).rglob("*.json"))


def decode(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return merkle.EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return merkle.node_hash(naive_root(leaves[:k]), naive_root(leaves[k:]))


def tree(size: int) -> tuple[growth.MemoryStore, list[bytes]]:
    store, leaves = growth.MemoryStore(), [merkle.leaf_hash(b"%d" % index) for index in range(size)]
    for index, leaf in enumerate(leaves):
        growth.append(store, index, leaf)
    return store, leaves


@pytest.mark.skipif(
    not VECTORS.exists(), reason="the corpus shared/merkle-vectors is not beside the repository"
)
def test_every_public_inclusion_vector_is_judged_as_it_should_be() -> None:
    judged = 0
    for path in vectors("inclusion"):
        case = json.loads(path.read_text())
        proof = [decode(item) for item in case["proof"] or []]
        try:
            merkle.verify_inclusion(
                case["leafIdx"], case["treeSize"], decode(case["leafHash"]), proof, decode(case["root"])
            )
            refused = False
        except Refusal:
            refused = True
        assert refused == case["wantErr"], path
        judged += 1
    assert judged > 50


@pytest.mark.skipif(
    not VECTORS.exists(), reason="the corpus shared/merkle-vectors is not beside the repository"
)
def test_every_public_consistency_vector_is_judged_as_it_should_be() -> None:
    judged = 0
    for path in vectors("consistency"):
        case = json.loads(path.read_text())
        proof = [decode(item) for item in case["proof"] or []]
        try:
            growth.verify_consistency(
                case["size1"], case["size2"], decode(case["root1"]), decode(case["root2"]), proof
            )
            refused = False
        except Refusal:
            refused = True
        assert refused == case["wantErr"], path
        assert refused or case["size1"] > 0, path
        judged += 1
    assert judged > 50


def test_roots_are_those_of_the_definition_at_every_size() -> None:
    store, leaves = tree(70)
    for size in range(71):
        assert growth.root(store, size) == naive_root(leaves[:size])


def test_every_proof_of_every_tree_up_to_40_leaves_holds_and_fits_nothing_else() -> None:
    store, leaves = tree(40)
    for size in range(1, 41):
        head = growth.root(store, size)
        for index in range(size):
            proof = growth.inclusion_proof(store, index, size)
            merkle.verify_inclusion(index, size, leaves[index], proof, head)
            for other in range(size):
                if other != index:
                    with pytest.raises(Refusal):
                        merkle.verify_inclusion(other, size, leaves[index], proof, head)
        for first in range(1, size + 1):
            growth.verify_consistency(
                first, size, growth.root(store, first), head, growth.consistency_proof(store, first, size)
            )


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 300), st.data())
def test_a_changed_leaf_or_proof_is_refused(size: int, data: st.DataObject) -> None:
    store, leaves = tree(size)
    index = data.draw(st.integers(0, size - 1))
    proof = growth.inclusion_proof(store, index, size)
    place, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    changed = bytearray(proof[place])
    changed[bit // 8] ^= 1 << bit % 8
    head = growth.root(store, size)
    for leaf, path in [
        (merkle.leaf_hash(b"other"), proof),
        (leaves[index], [*proof[:place], bytes(changed), *proof[place + 1 :]]),
        (leaves[index], proof[:-1]),
        (leaves[index], [*proof, proof[-1]]),
    ]:
        with pytest.raises(Refusal) as refused:
            merkle.verify_inclusion(index, size, leaf, path, head)
        assert refused.value.code == "log.not_included"


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 200), st.data())
def test_a_log_that_changed_an_old_leaf_cannot_prove_consistency(size: int, data: st.DataObject) -> None:
    store, leaves = tree(size)
    first = data.draw(st.integers(1, size))
    seen = growth.root(store, first)
    forged, changed = growth.MemoryStore(), data.draw(st.integers(0, first - 1))
    for index, leaf in enumerate(leaves):
        growth.append(forged, index, merkle.leaf_hash(b"forged") if index == changed else leaf)
    with pytest.raises(Refusal) as refused:
        growth.verify_consistency(
            first, size, seen, growth.root(forged, size), growth.consistency_proof(forged, first, size)
        )
    assert refused.value.code == "log.not_consistent"


class CountingStore(growth.MemoryStore):
    reads = writes = 0

    def get_hash(self, level: int, index: int) -> bytes:
        self.reads += 1
        return super().get_hash(level, index)

    def put(self, level: int, index: int, value: bytes) -> None:
        self.writes += 1
        super().put(level, index, value)


def test_appends_and_proofs_touch_few_hashes() -> None:
    store, size, worst = CountingStore(), 20_000, 0
    for index in range(size):
        before = store.reads + store.writes
        growth.append(store, index, b"\0" * 32)
        worst = max(worst, store.reads + store.writes - before)
    assert worst <= 2 * 15 + 1
    for ask in (
        lambda: growth.inclusion_proof(store, 12_345, size),
        lambda: growth.consistency_proof(store, 777, size),
    ):
        store.reads = 0
        ask()
        assert store.reads <= 2 * 15


@pytest.mark.parametrize(("first", "second"), [(0, 5), (6, 5), (-1, 5)])
def test_consistency_from_nothing_or_backwards_is_refused(first: int, second: int) -> None:
    store, _ = tree(6)
    with pytest.raises(Refusal) as refused:
        growth.consistency_proof(store, first, second)
    assert refused.value.code == "log.bad_range"
