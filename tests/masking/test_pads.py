"""Masks, the ledger and the vault: each pad once, and none outlives its key."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from contracts.refusal import Refusal
from enclave.masking.layers import oriented
from enclave.masking.masked import MaskedEngine
from enclave.masking.masks import Masks, PadIndex
from enclave.masking.residues import WIDTHS, Buffers
from enclave.masking.vault import PadLedger, Vault
from enclave_host.unmasked import WrittenStore
from tests.masking.tiny import LocalAccelerator

KEY = bytes(range(32))


def code(call, *arguments):
    with pytest.raises(Refusal) as refused:
        call(*arguments)
    return refused.value.code


def rows_of(packed):
    """Bytes of each row."""
    return [low.tobytes() + high.tobytes() for low, high in zip(packed.low, packed.high, strict=True)]


@pytest.mark.parametrize("limbs", WIDTHS)
def test_masks_are_the_aes_ctr_keystream_of_their_index(limbs):
    """Under the key of their width: token 3 with 9 words, which take two or three blocks."""
    size = 32 if limbs == 3 else 48
    block = (7 << 112) | (9 << 80) | (5 << 56) | (3 * size // 16)
    key = HKDF(SHA256(), 32, salt=None, info=f"fedslice/masking/masks/{8 * limbs}/v1".encode()).derive(KEY)
    stream = Cipher(algorithms.AES(key), modes.CTR(block.to_bytes(16))).encryptor().update(bytes(2 * size))
    expected = [stream[: 9 * limbs], stream[size : size + 9 * limbs]]
    assert rows_of(Masks(KEY).words(PadIndex(7, 9, 5), 3, 2, 9, limbs)) == expected


@pytest.mark.parametrize("limbs", WIDTHS)
def test_a_token_has_the_same_mask_however_its_batch_is_sent(limbs):
    masks = Masks(KEY)
    whole = rows_of(masks.words(PadIndex(1, 1, 1), 0, 6, 10, limbs))
    for first in range(6):
        assert rows_of(masks.words(PadIndex(1, 1, 1), first, 1, 10, limbs)) == [whole[first]]


def test_every_part_of_the_index_and_the_width_change_the_mask():
    masks = Masks(KEY)
    rows = {
        rows_of(masks.words(PadIndex(*index), first, 1, 8, limbs))[0][:16]
        for index in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2))
        for first in (0, 1)
        for limbs in WIDTHS
    }
    assert len(rows) == 16
    assert len({rows_of(Masks().words(PadIndex(1, 1, 1), 0, 1, 8, 3))[0] for _ in range(2)}) == 2
    derived = {masks.derive(purpose) for purpose in ("vault", "masks/24", "masks/32")}
    assert len(derived | {KEY}) == 4


def test_an_index_beyond_its_bits_is_refused_not_wrapped():
    masks = Masks(KEY)
    for index in (
        PadIndex(1 << 16, 0, 0),
        PadIndex(0, 1 << 32, 0),
        PadIndex(0, 0, 1 << 24),
        PadIndex(-1, 0, 0),
    ):
        assert code(masks.words, index, 0, 1, 4, 3) == "masking.out_of_indices"
    assert code(masks.words, PadIndex(0, 0, 0), 1 << 56, 1, 4, 3) == "masking.out_of_indices"


def test_a_mask_is_spent_once():
    ledger = PadLedger()
    ledger.enter(1, 1)
    ledger.spend(PadIndex(1, 1, 4), 0, 10)
    assert ledger.next(4) == 10
    ledger.spend(PadIndex(1, 1, 4), 10, 5)
    for first in (0, 9, 14):
        assert code(ledger.spend, PadIndex(1, 1, 4), first, 1) == "masking.pad_reused"
    ledger.enter(1, 2)
    assert code(ledger.spend, PadIndex(1, 1, 4), 20, 1) == "masking.pad_reused"  # a step that is over
    assert code(ledger.spend, PadIndex(2, 2, 4), 0, 1) == "masking.pad_reused"  # another round
    for step in (1, 2):
        assert code(ledger.enter, 2, step) == "masking.pad_reused"


@pytest.fixture
def vault(tmp_path):
    return Vault(tmp_path, KEY, 10_000)


def pads(size=96, fill=0):
    return bytearray((fill + i) % 256 for i in range(size))


def test_a_pad_comes_out_once_as_it_went_in(vault):
    vault.put(PadIndex(1, 1, 0), pads(), 4)
    vault.put(PadIndex(1, 1, 1), pads(60, 7), 3)
    assert vault.take(PadIndex(1, 1, 1)) == (pads(60, 7), 3)
    assert vault.take(PadIndex(1, 1, 0)) == (pads(), 4)
    assert vault.take(PadIndex(1, 1, 0)) is None
    assert vault.take(PadIndex(1, 2, 0)) is None
    assert vault.left() == 0


def test_no_index_is_sealed_twice(vault):
    vault.put(PadIndex(1, 1, 0), pads(), 4)
    assert code(vault.put, PadIndex(1, 1, 0), pads(), 4) == "masking.pad_made_twice"


def test_the_host_sees_no_pad_and_changes_none(vault, tmp_path):
    vault.put(PadIndex(1, 1, 0), pads(), 4)
    (file,) = tmp_path.iterdir()
    sealed = file.read_bytes()
    assert bytes(pads()[:16]) not in sealed
    file.write_bytes(sealed[:20] + bytes([sealed[20] ^ 1]) + sealed[21:])
    assert code(vault.take, PadIndex(1, 1, 0)) == "masking.vault_damaged"


def test_one_steps_pads_do_not_pass_for_anothers(vault, tmp_path):
    vault.put(PadIndex(1, 1, 0), pads(), 4)
    vault.put(PadIndex(1, 2, 0), pads(fill=1), 4)
    first, second = sorted(tmp_path.iterdir())
    first.write_bytes(second.read_bytes())
    assert code(vault.take, PadIndex(1, 1, 0)) == "masking.vault_damaged"


def test_the_vault_is_bounded_and_gives_room_back(vault, tmp_path):
    for step in range(1, 100):
        if vault.bytes + 96 + 16 > vault.limit:
            break
        vault.put(PadIndex(1, step, 0), pads(), 4)
    assert code(vault.put, PadIndex(1, 500, 0), pads(), 4) == "masking.vault_full"
    vault.drop_before(step)
    assert (vault.bytes, list(tmp_path.iterdir())) == (0, [])
    vault.put(PadIndex(1, step, 0), pads(), 4)


def test_a_restart_discards_the_vault(vault, tmp_path):
    vault.put(PadIndex(1, 1, 0), pads(), 4)
    again = Vault(tmp_path, Masks().derive("vault"), 10_000)
    assert again.take(PadIndex(1, 1, 0)) is None
    assert list(tmp_path.iterdir()) == []


def test_several_threads_make_the_pads_of_one(tmp_path):
    """Each has its own buffers, and its own part of the keystream."""
    store = WrittenStore(tmp_path / "store")
    layer = store.add("layer", [torch.randn(96, 512)], 96)
    (product,) = layer.forward
    made, before = [], torch.get_num_threads()
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            engine = MaskedEngine(store, LocalAccelerator(store.folder), masks=Masks(bytes(32)))
            weight = oriented(store.read(layer), product)
            made.append(engine._make(PadIndex(1, 1, product.number), product, weight, 3, 2000))
            assert torch.get_num_threads() == threads  # the main thread's are left as they are
    finally:
        torch.set_num_threads(before)
    assert made[0] == made[1]
    buffers = Buffers()
    mine = buffers.take("words", (4,), torch.uint8)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(buffers.take, "words", (4,), torch.uint8).result().data_ptr() != mine.data_ptr()
    assert buffers.take("words", (4,), torch.uint8).data_ptr() == mine.data_ptr()
