"""The enclave's clock. Inside SGX time comes from the host, who may lie; so it has a floor and never turns
back."""

from __future__ import annotations

import time

from contracts.refusal import Refusal


class Clock:
    """Unix seconds as the host tells them, never below `floor` and never less than an earlier answer."""

    def __init__(self, floor: int) -> None:
        self._floor = floor
        self._latest = 0

    def now(self) -> int:
        """A host clock that steps back is answered with the latest time that it has shown before.

        Raises: `program.clock_below_floor`: certificates and revocation lists that were replaced before the
        floor could otherwise be passed off as current.
        """
        shown = int(time.time())
        if shown < self._floor:
            raise Refusal("program.clock_below_floor", shown=shown, floor=self._floor)
        self._latest = max(self._latest, shown)
        return self._latest
