"""What sealing a stream costs over bare AES-256-GCM: `python -m benchmarks.sealing [--mib N] [--folder DIR]`.

`seal_over_raw_gcm` and `open_over_raw_gcm` are throughput ratios from file to file: both sides read the same
file, write as much, and encrypt the same 1 MiB frames; the sealed stream adds SHA-256 over all of it (its
name and what its sender signs), HPKE and two signatures. The same ratios from memory to memory are printed
without a goal: there, where AES is faster than SHA-256, the hash decides.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave.sealing.frames import FRAME_BYTES, TAG_BYTES
from enclave.sealing.hpke import HpkeKey
from enclave.sealing.signing import SigningKey
from enclave.sealing.stream import Binding, seal, unseal

BINDING = Binding("a" * 64, 1, "update", "site-a")
KEY, SIGNER, CIPHER = HpkeKey.generate(), SigningKey.generate(), AESGCM(bytes(32))
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


def in_files(act: Act, source: Path, target: Path) -> float:
    """Seconds from file to file. The target exists with its full size, so neither side pays for new pages."""
    with source.open("rb") as reader, target.open("r+b") as writer:
        start = time.perf_counter()
        act(reader, writer)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the files lie (default: the temporary folder)"
    )
    arguments = parser.parse_args()
    size = arguments.mib * FRAME_BYTES
    rows: list[tuple[str, float, float, float, float | None]] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        plain, raw, sealed, out = (folder / part for part in ("plain", "raw", "sealed", "out"))
        plain.write_bytes(os.urandom(size))
        for path in (raw, sealed, out):
            path.write_bytes(bytes(size + 2 * FRAME_BYTES))
        seconds = pairs(lambda: in_files(do_seal, plain, sealed), lambda: in_files(raw_encrypt, plain, raw))
        rows.append(("seal_over_raw_gcm", *seconds, seconds[1] / seconds[0], GOAL))
        for path, act in ((raw, raw_encrypt), (sealed, do_seal)):
            with plain.open("rb") as reader, path.open("wb") as writer:
                act(reader, writer)
        seconds = pairs(lambda: in_files(do_open, sealed, out), lambda: in_files(raw_decrypt, raw, out))
        rows.append(("open_over_raw_gcm", *seconds, seconds[1] / seconds[0], GOAL))
        contents = {path: path.read_bytes() for path in (plain, raw, sealed)}
    space = bytearray(size + 2 * FRAME_BYTES)
    seconds = pairs(
        lambda: in_memory(do_seal, contents[plain], space),
        lambda: in_memory(raw_encrypt, contents[plain], space),
    )
    rows.append(("seal_over_raw_gcm_in_memory", *seconds, seconds[1] / seconds[0], None))
    seconds = pairs(
        lambda: in_memory(do_open, contents[sealed], space),
        lambda: in_memory(raw_decrypt, contents[raw], space),
    )
    rows.append(("open_over_raw_gcm_in_memory", *seconds, seconds[1] / seconds[0], None))

    config = {
        "mib": arguments.mib,
        "frame_bytes": FRAME_BYTES,
        "recipients": 1,
        "best_of": RUNS,
        "cpus": os.cpu_count(),
    }
    for figure, _, _, ratio, goal in rows:
        line = {"figure": figure, "value": round(ratio, 3), "unit": "ratio of throughputs", "goal": goal}
        print(json.dumps(line | {"better": "higher", "config": config}))
    print(f"\n{'':30}{'MiB/s':>10}{'raw MiB/s':>12}{'ratio':>8}{'goal':>7}")
    for figure, ours, theirs, ratio, goal in rows:
        shown = "" if goal is None else f"{goal:.2f}"
        print(f"{figure:30}{arguments.mib / ours:10.0f}{arguments.mib / theirs:12.0f}{ratio:8.2f}{shown:>7}")


if __name__ == "__main__":
    main()
