"""`python -m enclave_host.proving`: the child that loads the model (see `enclave_host.bounded`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from enclave_host.bounded_child import Tell, serve
from enclave_host.proving.files import look_at


def _carry_out(request: dict[str, Any], tell: Tell) -> Any:
    """What is wrong with the files is said before torch is loaded, which takes seconds."""
    look_at(Path(request["folder"]))
    from enclave.slicing.eager import run_eagerly

    run_eagerly()
    from enclave_host.proving.registration import carry_out

    return carry_out(request, tell)


if __name__ == "__main__":
    sys.exit(serve(_carry_out))
