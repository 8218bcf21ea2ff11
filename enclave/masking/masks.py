"""One-time masks: the AES-256-CTR keystream under a key that never leaves the enclave's memory.

Each (round, step, product, token) owns its counter blocks, and a product stands for (layer, direction), so no
two masks ever share a block. The 128-bit counter block is, from the top:

    round (16 bits) ‖ step (32) ‖ product (24) ‖ block (56)

and token t of a product with inner dimension K owns the ⌈K/4⌉ blocks from t·⌈K/4⌉ on (a block is four
32-bit words). Within one key the keystream is indistinguishable from uniform up to the birthday bound of
2^64 blocks (NIST SP 800-38A; Bellare et al., FOCS 1997). Runs inside the enclave.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from torch import Tensor

from contracts.refusal import Refusal

KEY_BYTES = 32
BLOCK_WORDS = 4
_BITS = {"round": 16, "step": 32, "product": 24}
_BLOCK_BITS = 56
_ZEROS = memoryview(bytes(1 << 16))


@dataclass(frozen=True)
class Index:
    """Whose masks: a training or evaluation step of a round, and the product in it."""

    round: int
    step: int
    product: int


class Masks:
    """The keystream. Without `key` a fresh one is drawn, and that is what the product does: a restart has
    another key, so no mask can come again."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(KEY_BYTES) if key is None else key
        self._stream = bytearray()

    def words(self, index: Index, first: int, tokens: int, inner: int) -> Tensor:
        """(tokens, inner) int32 uniform words for the tokens from `first` on. Valid until the next call.

        Refuses with `masking.out_of_indices`.
        """
        blocks = -(-inner // BLOCK_WORDS)
        if first < 0 or (first + tokens) * blocks >= 1 << _BLOCK_BITS:
            raise Refusal("masking.out_of_indices", what="token")
        size = tokens * blocks * BLOCK_WORDS * 4
        if len(self._stream) < size + BLOCK_WORDS * 4:
            self._stream = bytearray(size + BLOCK_WORDS * 4)
        counter = (number(index) << _BLOCK_BITS) | (first * blocks)
        cipher = Cipher(algorithms.AES(self._key), modes.CTR(counter.to_bytes(16)))
        encryptor, stream = cipher.encryptor(), memoryview(self._stream)
        for start in range(0, size, len(_ZEROS)):  # so small that they stay in the cache
            encryptor.update_into(_ZEROS[: min(size - start, len(_ZEROS))], stream[start:])
        words = torch.frombuffer(self._stream, dtype=torch.int32, count=size // 4)
        return words.view(tokens, blocks * BLOCK_WORDS)[:, :inner]

    def derive(self, purpose: str) -> bytes:
        """A 32-byte key for something else, so that the masks' key serves nothing but masks."""
        info = f"fedslice/masking/{purpose}/v1".encode()
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(self._key)


def number(index: Index) -> int:
    """The index as 72 bits. Refuses with `masking.out_of_indices`."""
    value = 0
    for name, bits in _BITS.items():
        field = getattr(index, name)
        if not 0 <= field < 1 << bits:
            raise Refusal("masking.out_of_indices", what=name)
        value = (value << bits) | field
    return value
