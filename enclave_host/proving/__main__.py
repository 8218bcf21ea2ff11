"""`python -m enclave_host.proving`: the child that loads the model (see `enclave_host.bounded`)."""

from __future__ import annotations

import sys
from pathlib import Path

from contracts.model_proof import ModelProof
from enclave_host.bounded_child import serve
from enclave_host.child_calls import PROVE, Prove, Tell
from enclave_host.proving.files import look_at


def _carry_out(request: Prove, tell: Tell) -> ModelProof:
    """What is wrong with the files is said before torch is loaded, which takes seconds."""
    look_at(Path(request.folder))
    from enclave.slicing.eager import run_eagerly

    run_eagerly()
    from enclave_host.proving.registration import proof_of

    return proof_of(request, tell)


if __name__ == "__main__":
    sys.exit(serve(PROVE, _carry_out))
