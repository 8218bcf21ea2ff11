"""`python -m enclave_host.preparing`: the child that prepares a model (see `enclave_host.bounded`)."""

from __future__ import annotations

import sys
from pathlib import Path

from enclave_host.bounded_child import serve
from enclave_host.child_calls import PREPARE, Prepare, Prepared, Tell


def _carry_out(request: Prepare, tell: Tell) -> Prepared:
    from enclave.slicing.eager import run_eagerly

    run_eagerly()
    from enclave_host.preparing.preparation import prepare

    return Prepared(prepare(Path(request.folder), request.files, request.task, Path(request.into), tell))


if __name__ == "__main__":
    sys.exit(serve(PREPARE, _carry_out))
