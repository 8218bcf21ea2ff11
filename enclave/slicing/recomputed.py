"""Computing a sample of a site's features again, and comparing them with what its host has handed in.

Host and enclave may differ in the last bits of float32 arithmetic, and the host rounds to bf16 (8 bits). So a
number is right if it lies within half a unit of bf16's last place of the number computed here, and a little
more: SHARE of that half (some tokens have single numbers thousands of times as large as the others), and
TOLERANCE times the median magnitude of its token. All are of the true features, so whoever hands in others
has no more room than that, number by number. Runs inside the client slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from enclave.training.batches import by_length
from enclave.training.data import Examples, collate

TOLERANCE, SHARE = 2.0**-10, 2.0**-5
BATCH_TOKENS = 4096
"""Tokens, with padding, that go through the front together: bounds the memory of it."""
_PLACES = 9
"""Of x = m·2^e with ½ ≤ m < 1, half a unit of bf16's last place is 2^(e − 9)."""


def agrees(given: Tensor, computed: Tensor) -> bool:
    """Whether features that a host handed in are those that were computed here.

    Args: `given` (tokens, d_model) float32, of bf16 numbers; `computed` (tokens, d_model) float32.
    """
    _, exponent = torch.frexp(computed)
    rounding = torch.ldexp(torch.ones_like(computed), exponent - _PLACES)
    rest = TOLERANCE * computed.abs().median(dim=-1, keepdim=True).values
    return bool(((given - computed).abs() <= (1 + SHARE) * rounding + rest).all())


@torch.no_grad()
def differing(
    front: nn.Module,
    examples: Examples,
    given: Mapping[int, Tensor],
    progress: Callable[[int], None] | None = None,
) -> Iterator[int]:
    """Which of the `given` rows the front computes otherwise. `progress(done)` counts rows.

    Args: `given` maps a row's number in `examples` to its features, (tokens, d_model) float32.
    """
    done = 0
    for rows in _batches(sorted(given), examples):
        batch = collate(examples, rows)
        features = front(**batch.inputs).float()
        for place, row in enumerate(rows):
            if not agrees(given[row], features[place, : len(examples.tokens[row])]):
                yield row
        done += len(rows)
        if progress is not None:
            progress(done)


def _batches(rows: Sequence[int], examples: Examples) -> Iterator[list[int]]:
    """Rows of similar length together, as many as BATCH_TOKENS hold."""
    lengths = [len(examples.tokens[row]) for row in rows]
    batch: list[int] = []
    for (place,) in by_length(lengths, 1):
        if batch and (len(batch) + 1) * lengths[place] > BATCH_TOKENS:  # the longest comes last
            yield batch
            batch = []
        batch.append(rows[place])
    if batch:
        yield batch
