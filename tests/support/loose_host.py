"""A host that keeps to no form, as an attacker's would not: it asks an enclave whatever it likes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from contracts.progress import Progress
from enclave_host.process import EnclaveProcess


class LooseHost(EnclaveProcess):
    """An `EnclaveProcess` that can be asked by name."""

    def call(
        self,
        op: str,
        progress: Callable[[Progress], None] | None = None,
        timeout: float | None = None,
        **args: Any,
    ) -> dict[str, Any]:
        """The result of an operation, as it comes."""
        result = self.exchange(op, msgspec.Raw(msgspec.json.encode(args)), progress, timeout)
        return msgspec.json.decode(result, type=dict[str, Any])
