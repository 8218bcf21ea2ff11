"""What the transparency log costs: `python -m benchmarks.log [--sizes 1000 100000]`.

Append, inclusion and consistency proof at each size, with the store in memory and in SQLite (one row a hash,
as a database keeps it), and the re-check of a bundle per entry: of a part of that log, and of a whole log.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contracts.log import growth, merkle
from contracts.log.checkpoint import Checkpoint
from contracts.log.following import sign_checkpoint
from contracts.log.note import NoteKey
from contracts.receipts import NO_RECEIPT, Receipt, ReceiptInput, receipt_hash
from contracts.server_statements import sign_receipt
from contracts.signing import SigningKey
from transparency_log.bundle import verify_bundle, write_bundle
from transparency_log.entry import RECEIPT, encode_entry, make_entry

ORIGIN = "fedslice.example/benchmark"
SIGNER = SigningKey.generate()
ASKED = 300  # proofs
BUNDLED = 2_000  # real entries: receipts, which verification checks down to their signatures


class SqliteStore:
    """One row a hash, in a file."""

    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(path)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute(
            "CREATE TABLE hash (level INT, number INT, value BLOB, PRIMARY KEY (level, number)) WITHOUT ROWID"
        )

    def get_hash(self, level: int, index: int) -> bytes:
        asked = "SELECT value FROM hash WHERE level=? AND number=?"
        return bytes(self.database.execute(asked, (level, index)).fetchone()[0])

    def put(self, level: int, index: int, value: bytes) -> None:
        self.database.execute("INSERT INTO hash VALUES (?, ?, ?)", (level, index, value))


def receipts(count: int) -> list[bytes]:
    """Entries of runs of ten rounds with three sites."""
    entries: list[bytes] = []
    previous = NO_RECEIPT
    for number in range(count):
        run, turn = divmod(number, 10)
        previous = previous if turn else NO_RECEIPT
        receipt = Receipt(
            version=1,
            manifest=f"{run:064x}",
            run=f"run-{run}",
            round=turn + 1,
            roster=f"{number:064x}",
            inputs=tuple(
                ReceiptInput(f"site-{site}", f"{number:063x}{site}", 1_000_000, 700) for site in range(3)
            ),
            output="e" * 64,
            state="f" * 64,
            metrics={"pooled": {"accuracy": number / count, "loss": 1.5, "n": 900}},
            previous=previous,
            program="aggregator",
            measurement="1" * 64,
            development=True,
            issued=1_800_000_000 + number,
        )
        previous = receipt_hash(receipt)
        entries.append(
            encode_entry(make_entry(RECEIPT, 1_800_000_000 + number, sign_receipt(receipt, SIGNER)))
        )
    return entries


def each(count: int, act: Callable[[int], Any]) -> float:
    """Microseconds of CPU a call: a busy machine does not blur it."""
    start = time.process_time()
    for number in range(count):
        act(number)
    return (time.process_time() - start) / count * 1e6


def measure(size: int, entries: list[bytes], folder: Path) -> dict[str, float]:
    """Figures of a log of `size` leaves, the first of which are `entries`."""
    leaves = [merkle.leaf_hash(entry) for entry in entries[:size]]
    leaves += [merkle.leaf_hash(b"%d" % number) for number in range(len(leaves), size)]
    chosen = [random.Random(size).randrange(size) for _ in range(ASKED)]
    figures: dict[str, float] = {}
    stores: dict[str, growth.HashStore] = {
        "memory": growth.MemoryStore(),
        "sqlite": SqliteStore(folder / f"{size}.db"),
    }
    for name, store in stores.items():
        figures[f"append_{name}"] = each(size, lambda n, s=store: growth.append(s, n, leaves[n]))
        figures[f"inclusion_{name}"] = each(
            ASKED, lambda n, s=store: growth.inclusion_proof(s, chosen[n], size)
        )
        figures[f"consistency_{name}"] = each(
            ASKED, lambda n, s=store: growth.consistency_proof(s, chosen[n] + 1, size)
        )
    store = stores["memory"]
    head = growth.root(store, size)
    proofs = [growth.inclusion_proof(store, index, size) for index in chosen]
    figures["inclusion_verify"] = each(
        ASKED, lambda n: merkle.verify_inclusion(chosen[n], size, leaves[chosen[n]], proofs[n], head)
    )
    figures["bundle_verify_part"] = bundle(folder / "part.zip", store, size, entries[: size // 2])
    return figures


def bundle(path: Path, store: growth.HashStore, size: int, entries: list[bytes]) -> float:
    """Microseconds of CPU an entry to verify a bundle of the first entries of a log of `size`."""
    key = NoteKey(ORIGIN, SIGNER.public)
    head = Checkpoint(ORIGIN, size, growth.root(store, size))
    write_bundle(
        path,
        checkpoint=sign_checkpoint(head, SIGNER),
        log_key=key,
        store=store,
        entries=enumerate(entries),
        attachment=lambda _: None,
        created=0,
    )
    start = time.process_time()
    report = verify_bundle(path, log_key=key)
    seconds = time.process_time() - start
    assert report.entries == len(entries)
    assert not any(finding.code == "log.not_included" for finding in report.findings)
    return seconds / len(entries) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000])
    arguments = parser.parse_args()
    table: dict[int, dict[str, float]] = {}
    entries = receipts(BUNDLED)
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            table[size] = measure(size, entries, Path(folder))
        whole = growth.MemoryStore()
        for number, entry in enumerate(entries):
            growth.append(whole, number, merkle.leaf_hash(entry))
        complete = bundle(Path(folder) / "all.zip", whole, BUNDLED, entries)
    rows = [(size, name, value) for size, figures in table.items() for name, value in figures.items()]
    for size, name, value in [*rows, (BUNDLED, "bundle_verify_complete", complete)]:
        line = {"figure": f"log_{name}", "value": round(value, 2), "unit": "µs of CPU", "goal": None}
        print(json.dumps(line | {"better": "lower", "config": {"entries": size}}, ensure_ascii=False))
    print(f"\n{'µs of CPU each':28}" + "".join(f"{size:>12,}" for size in table))
    for name in table[arguments.sizes[0]]:
        print(f"{name:28}" + "".join(f"{figures[name]:12.1f}" for figures in table.values()))
    print(f"{'bundle_verify_complete':28}{complete:12.1f}   (a whole log of {BUNDLED:,})")


if __name__ == "__main__":
    main()
