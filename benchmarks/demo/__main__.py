"""`python -m benchmarks.demo [--headless] [--model smollm2] [--data FOLDER] [--placement masked | --method
method-2]`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

from contracts.refusal import Refusal

REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> int:
    """Prepare a fresh state in var/demo, tell the story, and leave the dashboard up unless headless."""
    options = _options()
    state = REPOSITORY / "var" / "demo"
    port = options.port or (free_port() if options.headless else 8000)
    os.environ.update(
        DJANGO_SETTINGS_MODULE="federation.settings",
        FEDSLICE_STATE=str(state / "coordinator"),
        FEDSLICE_URL=f"http://127.0.0.1:{port}",
        FEDSLICE_SECOND_FACTOR="none",  # its accounts are made up, and whoever looks round has no such app
        HF_HUB_OFFLINE="1",
    )
    shutil.rmtree(state, ignore_errors=True)

    import django

    django.setup()
    from benchmarks.demo.story import Story
    from enclave_jobs.stack import running

    # Ctrl-C and a polite kill both end the `with` blocks, which stop every process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    reported: type[Story] = Story
    if options.model == "smollm2":
        from benchmarks.demo.language import LanguageStory as reported
    story = reported(state, options.data, options.placement, options.method)
    try:
        with running() as stack:
            try:
                summary = story.tell()
                if not options.headless:
                    story.farewell()
                    stack.stopping.wait()
            finally:
                story.stop()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except (RuntimeError, Refusal) as error:
        print(f"The demo stopped: {error}", file=sys.stderr)
        return 1
    print(json.dumps(summary))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--headless", action="store_true", help="end by itself")
    parser.add_argument(
        "--model",
        choices=("minilm", "smollm2"),
        default="minilm",
        help="smollm2: a language model learns to answer discharge questions (make smollm2 fetches it)",
    )
    parser.add_argument("--data", type=Path, help="folder with train.jsonl.gz and test.jsonl.gz")
    parser.add_argument(
        "--placement",
        choices=("all_in_tee", "masked"),
        default="all_in_tee",
        help="masked: frozen layers on an accelerator (here the CPU), under one-time pads",
    )
    parser.add_argument(
        "--method",
        choices=("method-1", "method-2"),
        default="method-1",
        help="method-2: hospitals send sealed features once, the server's enclave trains the tail",
    )
    parser.add_argument("--port", type=int, help="8000, or a free one when headless")
    options = parser.parse_args()
    if options.data and not (options.data / "train.jsonl.gz").is_file():
        parser.error(f"{options.data} has no train.jsonl.gz; see README.md for the form of a data folder")
    return options


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
