"""The container images by digest: images.env, which docker compose and the Dockerfiles take them from.

    python -m enclave_host.images [--write]

Without `--write` this says, without a network, which images are locked. With it each image's digest is asked
of its registry and written behind its tag. A tag is moved by whoever owns the registry, a digest by nobody
(OCI Image Specification 1.1, "Digests"). A line with an https address names a file that an image is built
with; its digest is that of its bytes.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from attestation.measured import TREE
from contracts.refusal import Refusal
from enclave_host.registry import digest_of, digest_of_file
from error_catalogue import explain

FILE = "images.env"
UNLOCKED = "unlocked"
LINE = re.compile(
    r"(?P<name>[A-Z][A-Z0-9_]*)=(?P<image>https://[\w.:/-]+|[\w./:-]+:[\w.-]+)"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64})|  # (?P<word>unlocked))"
)


def images(tree: Path = TREE) -> dict[str, tuple[str, str]]:
    """Name → (image with its tag, digest or "unlocked").

    Raises: `images.unreadable`.
    """
    found: dict[str, tuple[str, str]] = {}
    try:
        lines = (tree / FILE).read_text().splitlines()
    except (OSError, ValueError) as error:
        raise Refusal("images.unreadable", file=FILE, fault="it cannot be read") from error
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if match is None or match["name"] in found:
            raise Refusal("images.unreadable", file=FILE, fault=f"line {number}")
        found[match["name"]] = (match["image"], match["digest"] or match["word"])
    if not found:
        raise Refusal("images.unreadable", file=FILE, fault="it names no image")
    return found


def require_locked(tree: Path = TREE) -> None:
    """SGX is built for from known bytes only.

    Raises: `images.unlocked` or `images.unreadable`.
    """
    for image, digest in images(tree).values():
        if digest == UNLOCKED:
            raise Refusal("images.unlocked", file=FILE, image=image)


def lock(tree: Path = TREE) -> None:
    """Ask for every digest, then write them all or, where one is refused, none.

    Raises: `images.unreadable` or `images.unreachable`.
    """
    digests = {
        name: (image, (digest_of_file if image.startswith("https:") else digest_of)(image))
        for name, (image, _old) in images(tree).items()
    }
    lines = []
    for line in (tree / FILE).read_text().splitlines():
        match = LINE.fullmatch(line)
        lines.append(line if match is None else "{}={}@{}".format(match["name"], *digests[match["name"]]))
    (tree / FILE).write_text("\n".join(lines) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """List the container images and their digests; --write asks the registries for them."""
    parser = argparse.ArgumentParser(prog="python -m enclave_host.images", description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="ask each image's registry for its digest")
    parser.add_argument("--tree", type=Path, default=TREE, help="folder of images.env (default: this one)")
    options = parser.parse_args(arguments)
    try:
        if options.write:
            lock(options.tree)
        listed = images(options.tree)
    except Refusal as refusal:
        said = explain(refusal.code, refusal.facts)
        sys.stderr.write(f"{said.message} {said.hint} [{said.code}]\n")
        return 1
    sys.stdout.write("".join(f"{image}  {digest}\n" for image, digest in listed.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
