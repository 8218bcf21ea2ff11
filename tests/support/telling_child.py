"""A bounded child that says what it has, or comes to the end that it is asked for."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time
from typing import Any

from enclave_host.bounded_child import Tell, serve


def carry_out(request: dict[str, Any], tell: Tell) -> Any:
    tell({"stage": "here"})
    match request["do"]:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            time.sleep(60)
        case "eat":
            return len(bytearray(1 << 30))
        case "fill":
            with open(os.path.join(os.environ["TMPDIR"], "file"), "wb") as file:  # noqa: PTH118, PTH123
                file.write(bytes(2 << 20))
        case "exit":
            os._exit(3)
        case "print":
            print("not an answer")  # goes to the log
    return {
        "environment": sorted(os.environ),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "core": resource.getrlimit(resource.RLIMIT_CORE)[1],
        "home": os.environ["HOME"],
    }


if __name__ == "__main__":
    sys.exit(serve(carry_out))
