"""`python -m site_agent`."""

import sys
from importlib.util import find_spec

from error_catalogue import explain


def run() -> int:
    """The command that was typed; words for who is on Windows, where locks and folders for one owner lack."""
    if find_spec("fcntl") is None:
        words = explain("agent.windows")
        sys.stderr.write(f"{words.message} [{words.code}]\n{words.hint}\n")
        return 1
    from site_agent.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
