"""What packing saves: `python -m benchmarks.packing`. Places of an epoch that hold padding, and all of them.

Batches of 16 rows, whose lengths are drawn about as instruction data has them (log-normal, median 90 tokens,
at most 512), a row each and packed into sequences of so many tokens: batches of rows of similar length, as
training has them, and for comparison batches that are drawn as they come.
"""

from __future__ import annotations

import json
import math
import random
import sys

from enclave.training.batches import shuffled
from enclave.training.packing import fit

BATCH = 16


def lengths_of_instructions(rows: int = 2000) -> list[int]:
    """Lengths in tokens, the same each time."""
    draw = random.Random(1)  # figures, no secret
    return [min(512, max(8, round(math.exp(draw.gauss(math.log(90), 0.8))))) for _ in range(rows)]


def places(lengths: list[int], packing: int, sort: bool = True) -> int:
    """Places that an epoch's batches have, padding counted; `packing` 0: a row each. Without `sort` batches
    are drawn as they come, and not from rows of similar length."""
    found = 0
    order = list(range(len(lengths)))
    random.Random(1).shuffle(order)
    drawn = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    for batch in shuffled(lengths, BATCH, random.Random(1)) if sort else drawn:
        own = [lengths[row] for row in batch]
        bins = fit(own, packing) if packing else [[row] for row in range(len(own))]
        found += len(bins) * max(sum(own[row] for row in rows) for rows in bins)
    return found


def main() -> int:
    """Print the figures, one JSON object a line."""
    lengths = lengths_of_instructions()
    for sort in (True, False):
        before = places(lengths, 0, sort)
        for packing in (512, 1024, 2048):
            share = 1 - places(lengths, packing, sort) / before
            config = {"packing": packing, "batch": BATCH, "rows": len(lengths), "similar_lengths": sort,
                      "padding_before": round(1 - sum(lengths) / before, 3)}  # fmt: skip
            line = {"figure": "packing.places_saved", "value": round(100 * share, 1), "unit": "%"}
            print(json.dumps({**line, "goal": None, "better": "higher", "config": config}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
