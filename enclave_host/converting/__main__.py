"""`python -m enclave_host.converting`: the child that reads pickles (see `enclave_host.bounded`)."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from contracts.program_calls import Nothing
from enclave_host.bounded_child import serve
from enclave_host.child_calls import UNPICKLE, ChildProgress, Tell, Unpickle
from enclave_host.confinement import lock_down
from enclave_host.converting.archive import look_into


def _carry_out(request: Unpickle, tell: Tell) -> Nothing:
    """Open every file, load every library, give up the right to both, and only then read a pickle."""
    with ExitStack() as opened:
        pairs = [
            (opened.enter_context(old.open("rb")), opened.enter_context(new.open("xb")), old.name)
            for old, new in (map(Path, files) for files in request.files)
        ]
        for file, _, name in pairs:
            look_into(file, name)
        from enclave.slicing.eager import run_eagerly

        run_eagerly()
        import torch

        from enclave_host.converting.unpickle import state_of, warm_up, write

        torch.set_num_threads(1)
        warm_up()
        lock_down()
        for place, (file, out, name) in enumerate(pairs):
            tell(ChildProgress("converting", place, len(pairs), file=name))
            write(state_of(file, name), out)
            out.flush()
    return Nothing()


if __name__ == "__main__":
    sys.exit(serve(UNPICKLE, _carry_out))
