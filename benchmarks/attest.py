"""What an appraisal costs beside dcap-qvl alone: `python -m benchmarks.attest [--seconds N]`.

Per second of one core, on genuine quotes and collateral where the shared corpus is there, else on development
evidence. `appraisals` is what a relying party runs: our checks, then dcap-qvl. `own_checks` is ours alone and
`dcap_qvl` the library alone, given the decoded collateral as our second opinion gives it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dcap_qvl

from attestation import development
from attestation.appraisal import judge
from attestation.checks import CHECKS
from attestation.checks.examination import Examination
from attestation.offline import appraise_offline
from contracts.policy import Policy, SgxReference

CORPUS = Path(__file__).parents[1] / ".." / "shared" / "attestation-corpus"
GENUINE = ("sgx-v3-prod-cfg-swhardening", "tdx-v4-gcp-uptodate-then-outofdate", "tdx-v5-uptodate")


@dataclass(frozen=True)
class Sample:
    name: str
    quote: bytes
    collateral: dict[str, str]
    at: int
    root: bytes
    policy: Policy | None


def genuine() -> Iterator[Sample]:
    """One SGX v3, one TDX v4 and one TDX v5 quote of the corpus, each with its newest collateral."""
    root = (CORPUS / "intel_sgx_root_ca.der").read_bytes()
    for name in GENUINE:
        folder = CORPUS / name
        newest = json.loads((folder / "meta.json").read_text())["collateral"][-1]
        collateral = json.loads((folder / newest["file"]).read_text())
        quote = (folder / "quote.bin").read_bytes()
        yield Sample(name, quote, collateral, newest["verify_at_unix"], root, None)


def made(folder: Path, at: int = 1_800_000_000) -> Iterator[Sample]:
    """One SGX v3 quote of a development root."""
    root, host = folder / "root", folder / "host"
    development.create_root(root)
    development.install_platform(host, development.issue_platform(root, development.create_platform(host)))
    quote = development.load_platform(host).sgx_quote(
        bytes(64), mrenclave=bytes(32), mrsigner=bytes(32), product_id=1, svn=1
    )
    reference = SgxReference("aggregator", mrenclave="00" * 32)
    policy = Policy("development", development.root_sha256(root), (reference,))
    collateral = development.collateral(root, at)
    yield Sample("development-sgx-v3", quote, collateral, at, development.root_der(root), policy)


def per_second(act: Callable[[], object], seconds: float) -> float:
    """Calls in a second of one core (other processes' time left out), after one call that warms up."""
    act()
    count, start = 0, time.process_time()
    while (elapsed := time.process_time() - start) < seconds:
        act()
        count += 1
    return count / elapsed


def measure(sample: Sample, seconds: float) -> dict[str, float]:
    def both() -> None:
        found = appraise_offline(sample.quote, sample.collateral, sample.at, sample.policy)
        if found.verdict != "accepted":
            raise SystemExit(f"{sample.name} was refused: {found.code}")

    def alone() -> None:
        judge(Examination(sample.quote, sample.collateral, sample.at, sample.policy), CHECKS)

    def library() -> None:
        fields = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(sample.collateral))
        dcap_qvl.verify_with_root_ca(sample.quote, fields, sample.root, sample.at)

    return {
        "appraisals": per_second(both, seconds),
        "own_checks": per_second(alone, seconds),
        "dcap_qvl": per_second(library, seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="for each figure")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        samples = list(genuine() if CORPUS.is_dir() else made(Path(folder)))
    rows = [(sample, measure(sample, seconds)) for sample in samples]
    for sample, figures in rows:
        for figure, value in figures.items():
            print(json.dumps(_line(sample, figure, value)))
    print(f"\n{'per second of one core':36} {'appraisals':>11} {'our checks':>11} {'dcap-qvl':>11}")
    for sample, figures in rows:
        print(f"{sample.name:36} " + " ".join(f"{value:11.0f}" for value in figures.values()))


def _line(sample: Sample, figure: str, value: float) -> dict[str, Any]:
    return {
        "figure": f"attest_{figure}_per_second",
        "value": round(value, 1),
        "unit": "1/s of one core",
        "goal": None,
        "better": "higher",
        "config": {"quote": sample.name, "bytes": len(sample.quote), "threads": 1},
    }


if __name__ == "__main__":
    main()
