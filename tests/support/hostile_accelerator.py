"""An accelerator that is honest for a while and then changes one bit. An agent starts it in place of its own
(FEDSLICE_ACCELERATOR)."""

from __future__ import annotations

import sys

from enclave_host import accelerator

HONEST = 40
"""Products that it answers right."""


class OneBit(accelerator.AcceleratorServer):
    """Real weights, real products, one wrong bit."""

    def answer(self, number: int, rows: int) -> None:
        super().answer(number, rows)
        if self._request > HONEST:
            outer, _, limbs = self.multiplier.shape(number)
            self.file.answer_area(self._request, rows, outer, limbs).low[rows // 2, 0] ^= 1


if __name__ == "__main__":
    accelerator.AcceleratorServer = OneBit  # type: ignore[misc]
    sys.exit(accelerator.main())
