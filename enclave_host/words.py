"""Memory for words on the host's side: an enclave puts its own into a channel."""

from __future__ import annotations

import numpy as np

from enclave.masking.residues import HIGH, Packed


def room_for(rows: int, columns: int, limbs: int) -> Packed:
    """Planes of their own, with undefined content.

    Returns: (rows, columns) words.
    """
    return Packed(np.empty((rows, columns), np.uint16), np.empty((rows, columns), HIGH[limbs]))
