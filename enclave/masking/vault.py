"""The vault of pads, and the ledger that lets each be used once.

A pad is u = r·Wᵀ for the mask r of some tokens in one product. It is made in the offline phase and costs as
much as the product itself; online it is only taken off. Pads lie in a folder of the host, one file a step,
sealed with AES-256-GCM under a key that is derived from the masks' key and never leaves the enclave's
memory. So a vault outlives no restart: opening one empties the folder. The nonce is the pad's own index,
which is used once.

That a mask meets two different features is what would break everything (Shannon 1949: a pad is for one
time), so it is the ledger that decides, not the vault: steps only ever rise, and within a step each
product's tokens are spent in order. Runs inside the enclave.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contracts.refusal import Refusal
from enclave.masking.masks import PadIndex, number

SUFFIX = ".pads"
TAG_BYTES = 16
_NONCE_BYTES = 12


class PadLedger:
    """Spends masks: every (round, step, product, token) at most once, for the life of the key."""

    def __init__(self) -> None:
        self._at = (0, 0)
        self._next: dict[int, int] = {}

    def enter(self, round: int, step: int) -> None:
        """Begin a step.

        Raises: `masking.pad_reused` for one that does not come after all earlier ones.
        """
        if step <= self._at[1]:
            raise Refusal("masking.pad_reused", step=step)
        self._at, self._next = (round, step), {}

    def spend(self, index: PadIndex, first: int, tokens: int) -> None:
        """Spend tokens [first, first + tokens).

        Raises: `masking.pad_reused`.
        """
        if (index.round, index.step) != self._at or first < self._next.get(index.product, 0):
            raise Refusal("masking.pad_reused", step=index.step)
        self._next[index.product] = first + tokens

    def next(self, product: int) -> int:
        """The first token of a product that this step has not spent yet."""
        return self._next.get(product, 0)


class Vault:
    """Sealed pads by index. `limit` bounds its bytes on disk."""

    def __init__(self, folder: Path, key: bytes, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(f"*{SUFFIX}"):
            stale.unlink()
        self._folder = folder
        self._seal = AESGCM(key)
        # by step: where the pads of an index lie, how many bytes they have, and of how many tokens they are
        self._places: dict[int, dict[PadIndex, tuple[int, int, int]]] = {}
        self._sizes: dict[int, int] = {}
        self._sealed, self._plain = bytearray(TAG_BYTES), bytearray()
        self.limit = limit
        self.bytes = 0

    def put(self, index: PadIndex, pads: bytearray, tokens: int) -> None:
        """Seal the pads of tokens 0…tokens − 1.

        Raises: `masking.vault_full`, `masking.no_disk`, and `masking.pad_made_twice` as a nonce would serve
        twice.
        """
        places = self._places.setdefault(index.step, {})
        if index in places:
            raise Refusal("masking.pad_made_twice", step=index.step)
        size = len(pads) + TAG_BYTES
        if self.bytes + size > self.limit:
            raise Refusal("masking.vault_full", limit=self.limit)
        sealed = self._seal.encrypt(_nonce(index), pads, None)
        try:
            with self._file(index.step).open("ab") as file:
                file.write(sealed)
        except OSError as error:
            raise Refusal("masking.no_disk", fault=type(error).__name__) from error
        offset = self._sizes.get(index.step, 0)
        places[index] = (offset, len(pads), tokens)
        self._sizes[index.step] = offset + size
        self.bytes += size

    def take(self, index: PadIndex) -> tuple[memoryview, int] | None:
        """Take the pads of an index out, and for how many tokens they are; they are not there a second
        time. None if none were made. Valid until the next call.

        Raises: `masking.vault_damaged`.
        """
        place = self._places.get(index.step, {}).pop(index, None)
        if place is None:
            return None
        offset, size, tokens = place
        if len(self._plain) < size:
            self._sealed, self._plain = bytearray(size + TAG_BYTES), bytearray(size)
        sealed, plain = memoryview(self._sealed)[: size + TAG_BYTES], memoryview(self._plain)[:size]
        try:
            with self._file(index.step).open("rb") as file:
                file.seek(offset)  # Gramine has no preadv
                file.readinto(sealed)
            self._seal.decrypt_into(_nonce(index), sealed, None, plain)
        except (OSError, InvalidTag) as error:
            raise Refusal("masking.vault_damaged", step=index.step) from error
        return plain, tokens

    def left(self) -> int:
        """How many pads (of one product in one step) have not been taken."""
        return sum(len(places) for places in self._places.values())

    def drop_before(self, step: int) -> None:
        """Forget the pads of steps that are over."""
        for over in [s for s in self._places if s < step]:
            del self._places[over]
            self.bytes -= self._sizes.pop(over, 0)
            self._file(over).unlink(missing_ok=True)

    def _file(self, step: int) -> Path:
        return self._folder / f"{step:010d}{SUFFIX}"


def _nonce(index: PadIndex) -> bytes:
    return number(index).to_bytes(_NONCE_BYTES)
