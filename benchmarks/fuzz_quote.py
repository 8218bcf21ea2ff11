"""Fuzz the verifier: `python -m benchmarks.fuzz_quote [--seconds N]` (600 by default).

Hypothesis draws blows to genuine quotes (bits flipped; bytes overwritten, cut out, repeated, put in; length
fields and versions set) and to genuine collateral. Each quote goes through the parser; what the parser reads,
and all damaged collateral, goes through every check. What may not happen: an exception other than the
verifier's own, a check that failed in an unforeseen way, or damaged evidence accepted under another name.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from attestation.appraisal import Appraisal, judge
from attestation.checks import CHECKS
from attestation.checks.examination import Examination
from attestation.quote import parse
from benchmarks.attest import CORPUS, Sample, genuine, made
from contracts.refusal import Refusal

EXAMPLES = 200
# Where versions, types and lengths stand in quotes v3, v4 and v5.
MARKS = (0, 2, 4, 48, 50, 432, 564, 632, 702, 760, 762, 766, 1012, 1046, 1048, 1216, 1250)


def appraised(sample: Sample, quote: bytes, collateral: dict[str, str]) -> Appraisal:
    """By our own checks: dcap-qvl is not what is fuzzed."""
    return judge(Examination(quote, collateral, sample.at, sample.policy), CHECKS)


Blow = tuple[str, int, int, bytes]
BLOWS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "write", "cut", "repeat", "insert"]),
        st.one_of(st.sampled_from(MARKS), st.integers(0, 9000)),
        st.integers(1, 64),
        st.one_of(st.binary(max_size=64), st.integers(0, 2**32 - 1).map(lambda n: n.to_bytes(4, "little"))),
    ),
    min_size=1,
    max_size=4,
)


def damage(whole: bytes, blows: Sequence[Blow]) -> bytes:
    """Each blow: what, where (modulo the length), how many bytes or which bit, and the bytes to write."""
    damaged = bytearray(whole)
    for kind, at, count, new in blows:
        at %= len(damaged) + 1
        if kind == "flip" and at < len(damaged):
            damaged[at] ^= 1 << count % 8
        elif kind == "cut":
            del damaged[at : at + count]
        elif kind == "repeat":
            damaged[at:at] = damaged[at : at + count]
        else:
            damaged[at : at + (len(new) if kind == "write" else 0)] = new
    return bytes(damaged)


class Fuzzer:
    """Counts what happened; `faults` must stay empty."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples
        self.names = [self._names(appraised(s, s.quote, s.collateral)) for s in samples]
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    def quotes(self, blows: Sequence[Blow]) -> None:
        for i, sample in enumerate(self.samples):
            quote = damage(sample.quote, blows)
            self.counts["quotes parsed"] += 1
            if self._parses(quote):
                self._appraise(i, quote, sample.collateral)

    def collateral(self, i: int, field: int, blows: Sequence[Blow]) -> None:
        sample = self.samples[i % len(self.samples)]
        name = sorted(sample.collateral)[field]
        text = damage(sample.collateral[name].encode(), blows).decode(errors="surrogateescape")
        self._appraise(i % len(self.samples), sample.quote, sample.collateral | {name: text})

    def _appraise(self, i: int, quote: bytes, collateral: dict[str, str]) -> None:
        self.counts["appraised"] += 1
        found = appraised(self.samples[i], quote, collateral)
        self.counts[found.verdict] += 1
        if found.code == "attest.internal":
            self.faults.append(f"a check failed in an unforeseen way: {found.checks}")
        if found.verdict == "accepted" and self._names(found) != self.names[i]:
            self.faults.append(f"a second name: {quote.hex()} {json.dumps(collateral)}")

    def _parses(self, quote: bytes) -> bool:
        try:
            read = parse(quote)
        except Refusal:
            return False
        except Exception as error:
            self.faults.append(f"{error!r} for {quote.hex()}")
            return False
        if read.encode() != quote:
            self.faults.append(f"another encoding for {quote.hex()}")
        return True

    @staticmethod
    def _names(appraisal: Appraisal) -> tuple[str, str]:
        return appraisal.quote_sha256, appraisal.collateral_sha256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=600)
    seconds = parser.parse_args().seconds
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        samples = list(genuine() if CORPUS.is_dir() else made(Path(folder)))
    fuzzer = Fuzzer(samples)

    pace = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    passes = [
        pace(given(BLOWS)(fuzzer.quotes)),
        pace(given(st.integers(0, 2), st.integers(0, 8), BLOWS)(fuzzer.collateral)),
    ]
    start = time.perf_counter()
    while time.perf_counter() - start < seconds and not fuzzer.faults:
        for run in (passes[0], passes[0], passes[0], passes[1]):
            run()
    total = fuzzer.counts["quotes parsed"] + fuzzer.counts["appraised"]
    config = {"seconds": round(time.perf_counter() - start), "inputs": total, **fuzzer.counts}
    line = {"figure": "attest_fuzz_faults", "value": len(fuzzer.faults), "unit": "faults", "goal": 0,
            "better": "lower", "config": config}  # fmt: skip
    print(json.dumps(line))
    for fault in fuzzer.faults:
        print(fault[:4000], file=sys.stderr)
    raise SystemExit(1 if fuzzer.faults else 0)


if __name__ == "__main__":
    main()
