"""Threads may decode any message type at once, as all types are resolved before there are threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.installation import REPOSITORY

# Many threads decode many types for the first time, all at once; the interpreter switches as often as it can.
CRASH = """
import sys, threading
{first}
from contracts.manifest import Manifest
from contracts import receipts, releases, roster
from contracts.sealed import handback, session, shards, shares, state, stream
import msgspec
{warm_up}
sys.setswitchinterval(1e-6)
kinds, pending = [], [msgspec.Struct]
while pending:
    found = pending.pop().__subclasses__()
    kinds += found
    pending += found
messages = {{kind: msgspec.json.encode(dict.fromkeys(kind.__struct_fields__)) for kind in kinds}}
together = threading.Barrier(12)
def decode():
    together.wait()
    for kind in kinds:
        try:
            msgspec.json.decode(messages[kind], type=kind)
        except (msgspec.ValidationError, TypeError, NameError):
            pass
threads = [threading.Thread(target=decode) for _ in range(12)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


@pytest.mark.parametrize("again", range(3))
def test_twelve_threads_may_decode_every_type_for_the_first_time_at_once(again: int) -> None:
    first, warm_up = "from contracts.decoder_warm_up import warm_up_decoders", "warm_up_decoders()"
    script = CRASH.format(first=first, warm_up=warm_up)
    ended = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, timeout=100)
    assert ended.returncode == 0, ended.stderr[-2000:]


# They bring torch, so jobs import them when they need them: after the decoders were warmed up.
LATE = (
    "enclave.slicing.checkpoint", "enclave.slicing.questions", "enclave.training.data",
    "enclave.training.features", "site_agent.methods.method_2.features",
)  # fmt: skip


# msgspec keeps what it has found out about a type beside it, where the garbage collector sees it.
UNRESOLVED = """
import gc, msgspec
from msgspec import Struct
from transparency_log.messages import warm_up_message_decoders
warm_up_message_decoders()
from enclave.slicing.eager import run_eagerly
run_eagerly()
import {late}
def kinds(base):
    return [kind for one in base.__subclasses__() for kind in (one, *kinds(one))]
late = [kind for kind in kinds(Struct) if kind.__module__ in "{late}".split(", ")]
assert late
print([k.__name__ for k in late if "StructInfo" not in [type(r).__name__ for r in gc.get_referents(k)]])
"""


def test_types_of_modules_that_come_later_are_resolved_as_they_are_imported() -> None:
    script = UNRESOLVED.format(late=", ".join(LATE))
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=100
    )
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr[-2000:]


def test_an_enclave_program_loads_no_message_of_the_log_to_warm_up_its_decoders() -> None:
    script = (
        "import sys; from enclave.programs import aggregator\n"
        "from contracts.decoder_warm_up import warm_up_decoders\n"
        "warm_up_decoders(); print([name for name in sys.modules if name.startswith('transparency_log')])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=100
    )
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr[-2000:]
