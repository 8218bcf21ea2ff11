"""What sealing costs over bare AES-256-GCM: `python -m benchmarks.sealing [--mib N] [--folder DIR]`.

`seal_over_raw_gcm` and `open_over_raw_gcm` are throughput ratios from file to file: both sides read the same
file, write as much, and encrypt the same 1 MiB frames. Sealing adds SHA-256 over all of it: of a *stream* its
name and what its sender signs, with HPKE and two signatures; of a *shard* (Method 2) its name, which the
opener compares as it reads, as in the mailbox. The same ratios of a stream from memory to memory are printed
without a goal: there, where AES is faster than SHA-256, the hash decides. `make bench-split` prints the
shards' too.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contracts.sealed.frames import FRAME_BYTES, TAG_BYTES
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.shards import ShardOrigin, draw_key, open_shard, seal_shard
from contracts.sealed.stream import Binding, seal, unseal
from contracts.signing import SigningKey
from enclave_host.mailbox import HostMailbox

BINDING = Binding("a" * 64, 1, "update", "site-a")
KEY, SIGNER, CIPHER = HpkeKey.generate(), SigningKey.generate(), AESGCM(bytes(32))
SHARD_KEY, ABOUT = draw_key(), ShardOrigin("site-a", "a" * 64, "training", 0)
GOAL, RUNS = 0.6, 7

Act = Callable[[BinaryIO, BinaryIO], object]


def raw_encrypt(source: BinaryIO, target: BinaryIO) -> None:
    index = 0
    while frame := source.read(FRAME_BYTES):
        target.write(CIPHER.encrypt(index.to_bytes(12, "big"), frame, b""))
        index += 1


def raw_decrypt(source: BinaryIO, target: BinaryIO) -> None:
    index = 0
    while frame := source.read(FRAME_BYTES + TAG_BYTES):
        target.write(CIPHER.decrypt(index.to_bytes(12, "big"), frame, b""))
        index += 1


def do_seal(source: BinaryIO, target: BinaryIO) -> None:
    seal(source, target, binding=BINDING, recipients={"aggregator": KEY.public}, signer=SIGNER)


def do_open(source: BinaryIO, target: BinaryIO) -> None:
    unseal(source, target, binding=BINDING, recipient="aggregator", key=KEY, sender_key=SIGNER.public)


def do_seal_shard(source: BinaryIO, target: BinaryIO) -> None:
    seal_shard(source, target, key=SHARD_KEY, about=ABOUT)


def in_files(act: Act, source: Path, target: Path) -> float:
    """Seconds from file to file. The target exists with its full size, so neither side pays for new pages."""
    with source.open("rb") as reader, target.open("r+b") as writer:
        start = time.perf_counter()
        act(reader, writer)
        return time.perf_counter() - start


def from_mailbox(box: HostMailbox, name: str, target: Path) -> float:
    """Seconds that opening a shard takes, with the comparison of its name."""
    with target.open("r+b") as writer:
        start = time.perf_counter()
        with box.incoming(name) as reader:
            open_shard(reader, writer, key=SHARD_KEY, about=ABOUT, limit=1 << 40)
        return time.perf_counter() - start


def in_memory(act: Act, source: bytes, target: bytearray) -> float:
    writer = io.BytesIO(target)
    start = time.perf_counter()
    act(io.BytesIO(source), writer)
    return time.perf_counter() - start


def pairs(one: Callable[[], float], other: Callable[[], float]) -> tuple[float, float]:
    """The best seconds of each, run in turn so that a busy machine disturbs both alike."""
    one(), other()
    times = [(one(), other()) for _ in range(RUNS)]
    return min(first for first, _ in times), min(second for _, second in times)


@dataclass(frozen=True)
class Found:
    """A ratio of throughputs and the seconds behind it. `what` is a stream or a shard."""

    figure: str
    what: str
    ours: float
    raw: float
    goal: float | None

    def line(self, mib: int) -> dict[str, Any]:
        """As every benchmark prints it."""
        config = {
            "what": self.what, "mib": mib, "frame_bytes": FRAME_BYTES, "best_of": RUNS,
            "cpus": os.cpu_count(),
        }  # fmt: skip
        return {
            "figure": self.figure, "value": round(self.raw / self.ours, 3), "unit": "ratio of throughputs",
            "goal": self.goal, "better": "higher", "config": config,
        }  # fmt: skip


def measure(mib: int, folder: Path | None, whats: tuple[str, ...]) -> Iterator[Found]:
    """The ratios of streams or shards of `mib` MiB, in files of `folder` (the temporary one by default)."""
    size = mib * FRAME_BYTES
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        plain, raw, sealed, out = (place / part for part in ("plain", "raw", "sealed", "out"))
        plain.write_bytes(os.urandom(size))
        for path in (raw, sealed, out):
            path.write_bytes(bytes(size + 2 * FRAME_BYTES))
        for what in whats:
            act = do_seal if what == "stream" else do_seal_shard
            seconds = pairs(
                lambda act=act: in_files(act, plain, sealed),  # type: ignore[misc]
                lambda: in_files(raw_encrypt, plain, raw),
            )
            yield Found("seal_over_raw_gcm", what, *seconds, GOAL)
        with plain.open("rb") as reader, raw.open("wb") as writer:
            raw_encrypt(reader, writer)
        for what in whats:
            with plain.open("rb") as reader, sealed.open("wb") as writer:
                (do_seal if what == "stream" else do_seal_shard)(reader, writer)
            opens: Callable[[], float] = lambda: in_files(do_open, sealed, out)  # noqa: E731
            if what == "shard":
                box = HostMailbox.create(place / "mailbox")
                with sealed.open("rb") as reader:
                    address = hashlib.file_digest(reader, "sha256").hexdigest()
                box.deliver(sealed, address)
                opens = lambda: from_mailbox(box, address, out)  # noqa: B023, E731
            yield Found(
                "open_over_raw_gcm", what, *pairs(opens, lambda: in_files(raw_decrypt, raw, out)), GOAL
            )
            if what == "stream":
                contents = {path: path.read_bytes() for path in (plain, raw, sealed)}
                yield from in_memory_too(contents[plain], contents[raw], contents[sealed])


def in_memory_too(plain: bytes, raw: bytes, sealed: bytes) -> Iterator[Found]:
    """The ratios of a stream from memory to memory."""
    space = bytearray(len(plain) + 2 * FRAME_BYTES)
    seconds = pairs(lambda: in_memory(do_seal, plain, space), lambda: in_memory(raw_encrypt, plain, space))
    yield Found("seal_over_raw_gcm_in_memory", "stream", *seconds, None)
    seconds = pairs(lambda: in_memory(do_open, sealed, space), lambda: in_memory(raw_decrypt, raw, space))
    yield Found("open_over_raw_gcm_in_memory", "stream", *seconds, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the files lie (default: the temporary folder)"
    )
    arguments = parser.parse_args()
    found = list(measure(arguments.mib, arguments.folder, ("stream", "shard")))
    for one in found:
        print(json.dumps(one.line(arguments.mib)))
    print(f"\n{'':38}{'MiB/s':>10}{'raw MiB/s':>12}{'ratio':>8}{'goal':>7}")
    for one in found:
        shown = "" if one.goal is None else f"{one.goal:.2f}"
        speeds = f"{arguments.mib / one.ours:10.0f}{arguments.mib / one.raw:12.0f}{one.raw / one.ours:8.2f}"
        print(f"{f'{one.figure} ({one.what})':38}{speeds}{shown:>7}")


if __name__ == "__main__":
    main()
