"""One-time masks: the AES-256-CTR keystream under keys that never leave the enclave's memory.

Residues of three and of four bytes have keys of their own, both derived from the one that is drawn. Each
(round, step, product, token) owns its counter blocks, and a product stands for (layer, direction), so no
two masks ever share a block. The 128-bit counter block is, from the top:

    round (16 bits) ‖ step (32) ‖ product (24) ‖ block (56)

and token t of a product of K words of b bytes owns the B = ⌈b·K/16⌉ blocks from t·B on: first the K low
halves, then the K high parts. Within one key the keystream is indistinguishable from uniform up to the
birthday bound of 2^64 blocks (NIST SP 800-38A; Bellare et al., FOCS 1997). Runs inside the enclave.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from contracts.refusal import Refusal
from enclave.masking.residues import WIDTHS, Buffers, Packed

KEY_BYTES = 32
BLOCK_BYTES = 16
_BITS = {"round": 16, "step": 32, "product": 24}
_BLOCK_BITS = 56
_ZEROS = memoryview(bytes(1 << 16))


@dataclass(frozen=True)
class PadIndex:
    """Whose masks: a training or evaluation step of a round, and the product in it."""

    round: int
    step: int
    product: int


class Masks:
    """The keystreams. Without `key` a fresh one is drawn, and that is what the product does: a restart has
    another key, so no mask can come again."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(KEY_BYTES) if key is None else key
        self._keys = {limbs: algorithms.AES(self.derive(f"masks/{8 * limbs}")) for limbs in WIDTHS}
        self._buffers = Buffers()

    def words(self, index: PadIndex, first: int, tokens: int, inner: int, limbs: int) -> Packed:
        """Uniform residues for the tokens from `first` on.

        Returns: (tokens, inner) words. Valid until this thread's next call.

        Raises: `masking.out_of_indices`.
        """
        blocks = -(-inner * limbs // BLOCK_BYTES)
        if first < 0 or (first + tokens) * blocks >= 1 << _BLOCK_BITS:
            raise Refusal("masking.out_of_indices", what="token")
        size = tokens * blocks * BLOCK_BYTES
        stream = self._buffers.take("stream", (size + BLOCK_BYTES,), torch.uint8).numpy()
        counter = (number(index) << _BLOCK_BITS) | (first * blocks)
        encryptor = Cipher(self._keys[limbs], modes.CTR(counter.to_bytes(16))).encryptor()
        for start in range(0, size, len(_ZEROS)):  # so small that they stay in the cache
            encryptor.update_into(_ZEROS[: min(size - start, len(_ZEROS))], stream.data[start:])
        return Packed.beside(stream[:size].reshape(tokens, blocks * BLOCK_BYTES), inner, limbs)

    def derive(self, purpose: str) -> bytes:
        """A 32-byte key for something else, so that no key serves two purposes."""
        info = f"fedslice/masking/{purpose}/v1".encode()
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(self._key)


def number(index: PadIndex) -> int:
    """The index as 72 bits.

    Raises: `masking.out_of_indices`.
    """
    value = 0
    for name, bits in _BITS.items():
        field = getattr(index, name)
        if not 0 <= field < 1 << bits:
            raise Refusal("masking.out_of_indices", what=name)
        value = (value << bits) | field
    return value
