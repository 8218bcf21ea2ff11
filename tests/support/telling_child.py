"""A bounded child that says what it has, or comes to the end that it is asked for."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time

from msgspec import Struct

from contracts.refusal import Refusal
from enclave_host.bounded_child import serve
from enclave_host.child_calls import ChildCall, ChildProgress, Tell


class Do(Struct, frozen=True, forbid_unknown_fields=True):
    do: str


class Has(Struct, frozen=True, forbid_unknown_fields=True):
    environment: list[str]
    interfaces: list[str]
    core: int
    home: str


CALL = ChildCall("tests.support.telling_child", Do, Has)


def carry_out(request: Do, tell: Tell) -> Has:
    tell(ChildProgress("here"))
    match request.do:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            time.sleep(60)
        case "eat":
            len(bytearray(1 << 30))
        case "fill":
            with open(os.path.join(os.environ["TMPDIR"], "file"), "wb") as file:  # noqa: PTH118, PTH123
                file.write(bytes(2 << 20))
        case "exit":
            os._exit(3)
        case "curse":
            raise Refusal("model.file_missing", file="\ud800")
        case "lie":
            return ChildProgress("no such result")  # type: ignore[return-value]
        case "print":
            print("not an answer")  # goes to the log
    return Has(
        environment=sorted(os.environ),
        interfaces=[name for _, name in socket.if_nameindex()],
        core=resource.getrlimit(resource.RLIMIT_CORE)[1],
        home=os.environ["HOME"],
    )


if __name__ == "__main__":
    sys.exit(serve(CALL, carry_out))
