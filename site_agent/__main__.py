"""`python -m site_agent`."""

import sys
from importlib.util import find_spec

from error_catalogue import explain


def run() -> int:
    """The command that was typed; words for who is on Windows, where locks and folders for one owner lack,
    and for who has not installed all packages."""
    if find_spec("fcntl") is None:
        return _complain("agent.windows")
    try:
        from site_agent.cli import main
    except ModuleNotFoundError as error:
        return _complain("agent.not_installed", package=str(error.name).partition(".")[0])
    return main()


def _complain(code: str, **facts: str | int | float | None) -> int:
    words = explain(code, facts)
    sys.stderr.write(f"{words.message} [{words.code}]\n{words.hint}\n")
    return 1


if __name__ == "__main__":
    sys.exit(run())
