"""Manifests, rosters and receipts for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attestation.development import (
    create_platform,
    create_root,
    install_platform,
    issue_platform,
    platform_root_sha256,
)
from attestation.measurement import measure
from contracts.agents_api.datasets import DatasetAnswer, DatasetBody
from contracts.canonical import canonical
from contracts.manifest import (
    Aggregation,
    DatasetRef,
    Lora,
    Manifest,
    ModelSpec,
    Release,
    Site,
    Training,
    TransparencyLog,
    parse,
)
from contracts.policy import Policy, SgxReference
from contracts.receipts import NO_RECEIPT, Receipt, ReceiptInput, Scoring, SignedReceipt
from contracts.server_statements import sign_receipt
from contracts.signing import SigningKey
from site_agent.datasets.catalogue import Catalogue, Dataset
from site_agent.datasets.intake import Wishes
from site_agent.state import State
from site_agent.witness import log_key_fingerprint
from tests.support.keys import approval_key
from tests.support.made_log import VKEY

OTHER = SigningKey.generate()
"""The key of the other hospital, site-2."""
PINNED = log_key_fingerprint(VKEY)
"""What the operator has told the hospital by letter: the fingerprint of the key of their log."""


def add_dataset(
    state: State, folder: Path, name: str = "notes", identifier: str = "ds-1", public: bool = False
) -> Dataset:
    """A small dataset of the site, as if it were published under `identifier`."""
    source = folder / f"{name}.jsonl"
    rows = [{"text": f"note {n} of {name}", "label": "red" if n % 2 else "green"} for n in range(40)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    catalogue = Catalogue(state)
    dataset, _ = catalogue.add([source], name, Wishes(), public)

    class Publisher:
        """Answers as the coordinator does."""

        def ask(self, endpoint: Any, body: DatasetBody) -> DatasetAnswer:
            return DatasetAnswer(identifier, body.name, body.card.rows)

    return catalogue.publish(dataset, Publisher())  # type: ignore[arg-type]


def certify(state: State, root: Path) -> None:
    """Enrolment's part: the site's development platform, under the root in this folder."""
    create_root(root)
    install_platform(state.platform, issue_platform(root, create_platform(state.platform)))


def make_manifest(state: State, dataset: Dataset, **changes: Any) -> Manifest:
    """A run of this site and one other, in which everything is as it should be, but for `changes`."""
    fields: dict[str, Any] = {
        "version": 1,
        "run": "run-1",
        "study": "Triage",
        "purpose": "Route messages\nwithout reading them",
        "method": "method-1",
        "placement": "all_in_tee",
        "runtime": "development",
        "model": ModelSpec(
            "embedded:all-MiniLM-L6-v2",
            "sequence-classification",
            {"config.json": "c" * 64},
            ("green", "red"),
            128,
        ),
        "adapter": Lora(8, 16, ("query", "value")),
        "training": Training(3, 1, 16, 1e-3, 7),
        "sites": (
            Site(
                "site-1",
                "St. Anna",
                state.key.public,
                state.config.approval_key,
                DatasetRef(dataset.id, dataset.digest, dataset.card.rows),
            ),
            Site(
                "site-2",
                "St. Barbara",
                OTHER.public,
                approval_key(OTHER).public,
                DatasetRef("ds-2", "d" * 64, 50),
            ),
        ),
        "aggregation": Aggregation("fedavg", 2, 600),
        "policy": Policy(
            "development",
            platform_root_sha256(state.platform) or "e" * 64,
            (
                SgxReference("aggregator", mrenclave=measure("aggregator")),
                SgxReference("client_slice", mrenclave=measure("client_slice")),
            ),
        ),
        "release": Release("nothing", 2),
        "minimum_time": 1_700_000_000,
        "log": TransparencyLog(VKEY),
    }
    return parse(canonical(Manifest(**{**fields, **changes})))


def make_receipt(
    manifest: Manifest, round: int, previous: str = NO_RECEIPT, signer: SigningKey = OTHER, **changes: Any
) -> SignedReceipt:
    """A receipt of an aggregator."""
    fields: dict[str, Any] = {
        "version": 1,
        "manifest": manifest.hash,
        "run": manifest.run,
        "round": round,
        "roster": "a" * 64,
        "inputs": (ReceiptInput("site-1", "b" * 64, 10, 5),),
        "output": "c" * 64,
        "state": None,
        "metrics": {"pooled": {"accuracy": 0.5}},
        "previous": previous,
        "program": "aggregator",
        "measurement": "1" * 64,
        "development": True,
        "issued": 1_700_000_001,
        "scoring": Scoring(("site-1",), None),
    }
    return sign_receipt(Receipt(**{**fields, **changes}), signer)
