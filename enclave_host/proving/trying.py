"""`python -m enclave_host.proving.trying`: the child that tries a study before it is frozen."""

from __future__ import annotations

import sys
from pathlib import Path

from contracts.program_calls import Nothing
from enclave_host.bounded_child import serve
from enclave_host.child_calls import TRY_STUDY, Tell, TryStudy
from enclave_host.proving.files import look_at


def _carry_out(request: TryStudy, tell: Tell) -> Nothing:
    """What is wrong with the files is said before torch is loaded, which takes seconds."""
    look_at(Path(request.folder))
    from enclave.slicing.eager import run_eagerly

    run_eagerly()
    from enclave_host.proving.registration import try_study

    try_study(request, tell)
    return Nothing()


if __name__ == "__main__":
    sys.exit(serve(TRY_STUDY, _carry_out))
