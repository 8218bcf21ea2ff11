"""A manifest that promises a bound, noise or a baseline that could not be kept is not one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.canonical import canonical
from contracts.manifest import (
    Aggregation,
    KeyShares,
    Manifest,
    Masking,
    Prefix,
    Privacy,
    Publication,
    PublicFront,
    ServerOptimizer,
    Spf,
    Split,
    Training,
    parse,
)
from contracts.policy import CollateralFloor
from contracts.refusal import Refusal

MANIFEST = parse((Path(__file__).parent / "vectors" / "manifest.json").read_bytes())
PLAIN = Aggregation("fedavg", 2, 600)
SITE = Privacy("site", 1.0, 1e-5)
RECORD = Privacy("record", 1.0, 1e-5, gradient_clip=1.0)
MASKED = {"placement": "masked", "masking": Masking()}
NATIVE = {"placement": "masked", "masking": Masking(passes="native")}
SGX: dict[str, Any] = {
    "runtime": "sgx",
    "policy": msgspec.structs.replace(
        MANIFEST.policy,
        root="intel",
        minimum_tcb_evaluation=17,
        floors=(CollateralFloor("0" * 12, "processor", 1, 2, 3, 4, 5, 6, 7, 8),),
    ),
    "sites": tuple(msgspec.structs.replace(site, development_key=False) for site in MANIFEST.sites),
}
MOMENTUM, ADAM = ServerOptimizer("fedavgm", 1.0, 0.9), ServerOptimizer("fedadam", 0.01, 0.9, 0.99, 1e-3)
SPLIT = {"method": "method-2", "adapter": Spf(25.0, 25.0), "split": Split(1)}


def changed(**changes: Any) -> Manifest:
    return msgspec.structs.replace(MANIFEST, **changes)


def rules(**more: Any) -> dict[str, Aggregation]:
    return {"aggregation": msgspec.structs.replace(PLAIN, **more)}


def pulled(strength: float) -> Training:
    return msgspec.structs.replace(MANIFEST.training, proximal=strength)


def shares(threshold: int) -> dict[str, Any]:
    return {**SPLIT, "split": Split(1, shares=KeyShares(threshold))}


def spelt(spellings: dict[str, str]) -> Manifest:
    model = msgspec.structs.replace(MANIFEST.model, spellings=spellings)
    return changed(model=model, **rules())


def tables(cells: int, labels: int = 2, **more: Any) -> Manifest:
    names = tuple(f"label {number}" for number in range(labels))
    model = msgspec.structs.replace(MANIFEST.model, labels=names, spellings={}, **more)
    return changed(model=model, publication=Publication(cells=cells), **rules())


def public(manifest: Manifest) -> Manifest:
    sites = tuple(
        msgspec.structs.replace(site, dataset=msgspec.structs.replace(site.dataset, public=True))
        for site in manifest.sites
    )
    return msgspec.structs.replace(manifest, sites=sites, aggregation=PLAIN)


CHAT = {
    "model": msgspec.structs.replace(MANIFEST.model, task="causal-lm", labels=(), template="model"),
    "sites": tuple(
        msgspec.structs.replace(site, dataset=msgspec.structs.replace(site.dataset, kind="messages"))
        for site in MANIFEST.sites
    ),
    "aggregation": PLAIN,
}
WRITES = {"publication": Publication(written_rows=32, written_tokens=64)}


KEPT = {
    "answers that are written": changed(**CHAT, **WRITES),
    "two spellings of one label": spelt({"a": MANIFEST.model.labels[0], "b": MANIFEST.model.labels[0]}),
    "momentum of one factor": changed(**rules(rule="ffa-lora", optimizer=MOMENTUM)),
    "adam of a prefix, with noise per site": changed(
        adapter=Prefix(4), **rules(clip=1.0, privacy=SITE, optimizer=ADAM)
    ),
    "adam with noise per record": changed(**rules(privacy=RECORD, optimizer=ADAM)),
    "momentum under masks": changed(**MASKED, **rules(optimizer=MOMENTUM)),
    "a proximal term": changed(training=pulled(0.1), **rules()),
    "a proximal term of tails apart": changed(
        **{**SPLIT, "split": Split(1, batches="per-site")}, training=pulled(0.1), **rules()
    ),
    "svd with a clip": changed(**rules(rule="stack-svd", clip=1.0, max_samples=9)),
    "a prefix that is averaged": changed(adapter=Prefix(4), **rules(clip=1.0)),
    "noise per site under masks": changed(**MASKED, **rules(clip=1.0, privacy=SITE)),
    "noise per record of stacked factors": changed(**rules(rule="stack-svd", privacy=RECORD)),
    "method 2 without bounds": changed(**SPLIT, **rules()),
    "a server's key in shares": changed(**shares(2), **rules()),
    "tables of fifty labels": tables(5, 50),
    "a plaintext baseline over public data": public(changed(placement="plaintext")),
}


def tagging(*labels: str, release: str = "nothing") -> Manifest:
    kind = [msgspec.structs.replace(site.dataset, kind="token-tags") for site in MANIFEST.sites]
    sites = [msgspec.structs.replace(s, dataset=d) for s, d in zip(MANIFEST.sites, kind, strict=True)]
    model = msgspec.structs.replace(
        MANIFEST.model, task="token-classification", labels=labels, spellings={}
    )  # fmt: skip
    may = msgspec.structs.replace(MANIFEST.release, rule=release)
    return changed(model=model, sites=tuple(sites), release=may, **rules())


def choosing(**changes: Any) -> Manifest:
    """All sites' rows are questions with choices, but those of one that says otherwise."""
    sites = [*CHAT["sites"]]
    for place, site in enumerate(sites):
        kind = "messages" if place and changes.get("beside") else "prompt-choices"
        sites[place] = msgspec.structs.replace(site, dataset=msgspec.structs.replace(site.dataset, kind=kind))
    more = {name: value for name, value in changes.items() if name != "beside"}
    return changed(**{**CHAT, "sites": tuple(sites), **more})


def packing(tokens: int) -> Training:
    return msgspec.structs.replace(MANIFEST.training, packing=tokens)


AGAIN = msgspec.structs.replace(MANIFEST.training, activations="again")
KEPT["few rows at a time, activations computed again"] = changed(
    **CHAT, training=msgspec.structs.replace(AGAIN, at_once=2)
)
KEPT["rows that stand together"] = changed(**CHAT, training=packing(4096))
STARTS = {"start": "ab" * 32, "start_receipt": "cd" * 32}


def starting(start: dict[str, str] = STARTS, **more: Any) -> Manifest:
    return changed(model=msgspec.structs.replace(MANIFEST.model, **start), **more)


KEPT["a released adapter to start from"] = starting()
KEPT["LoRA of a tail that starts from one"] = starting(**SPLIT, **rules())
KEPT["answers that are chosen"] = choosing()
KEPT["passes in C"] = changed(**NATIVE)
KEPT["masks without them under SGX"] = changed(**MASKED, **SGX)
KEPT["tags of two types"] = tagging("O", "B-a", "I-a", "B-b", "I-b")
BROKEN = {
    "activations of a tail, where its split does not say so": changed(**SPLIT, training=AGAIN),
    "masked products that are computed again": changed(**MASKED, training=AGAIN),
    "activations behind a prefix that are computed again": changed(adapter=Prefix(4), training=AGAIN),
    "a start of no receipt": starting({"start": "ab" * 32}),
    "a receipt without a start": starting({"start_receipt": "ab" * 32}),
    "a receipt without a start where nothing else is asked": starting(
        {"start_receipt": "ab" * 32}, publication=Publication(), **rules()
    ),
    "a prefix that starts from LoRA": starting(adapter=Prefix(4)),
    "rows without LoRA that start from LoRA": starting(
        **{**SPLIT, "adapter": Spf(25.0, 25.0, lora=())}, **rules()
    ),
    "packed texts that are sorted": changed(training=packing(4096), **rules()),
    "packed rows behind a prefix": changed(**{**CHAT, "adapter": Prefix(4)}, training=packing(4096)),
    "packed rows of noise": changed(**{**CHAT, **rules(privacy=RECORD)}, training=packing(4096)),
    "sequences without room for a row": changed(**CHAT, training=packing(8)),
    "passes in C under SGX": changed(**NATIVE, **SGX),
    "questions with choices beside others": choosing(beside=True),
    "chosen answers that are written too": choosing(**WRITES),
    "answers to texts that are sorted": changed(**WRITES, **rules()),
    "answers without tokens": changed(**CHAT, publication=Publication(written_rows=32)),
    "tokens of no answers": changed(**CHAT, publication=Publication(written_tokens=64)),
    "answers that are written under masks": changed(**CHAT, **WRITES, **MASKED),
    "answers that are written by a tail": changed(**CHAT, **WRITES, **SPLIT),
    "answers that are written behind a public front": changed(**CHAT, **WRITES, front=PublicFront(1)),
    "answers that are written behind a prefix": changed(**CHAT, **WRITES, adapter=Prefix(4)),
    "answers of any number of tokens": changed(
        **CHAT, publication=Publication(written_rows=9, written_tokens=9)
    ),
    "tags without their outside": tagging("B-a", "I-a"),
    "tags in another order": tagging("O", "I-a", "B-a"),
    "tags that are served": tagging("O", "B-a", "I-a", release="serve-only"),
    "a spelling of no label": spelt({"Hip": "elbow"}),
    "a spelling that is a label": spelt({MANIFEST.model.labels[0]: MANIFEST.model.labels[1]}),
    "a chain of spellings": spelt({"a": "b", "b": MANIFEST.model.labels[0]}),
    "a server's key that one site makes": changed(**shares(1), **rules()),
    "a server's key that all sites together do not make": changed(**shares(4), **rules()),
    "shares where the TEE has a sealing key": changed(**shares(2), **rules(), runtime="direct"),
    "the factors of a prefix": changed(adapter=Prefix(4), **rules(rule="stack-svd")),
    "noise per site without a clip": changed(**rules(privacy=SITE)),
    "noise per site behind a decomposition": changed(**rules(rule="stack-svd", clip=1.0, privacy=SITE)),
    "noise per record without a gradient clip": changed(**rules(privacy=Privacy("record", 1.0, 1e-5))),
    "noise per site with a gradient clip": changed(
        **rules(clip=1.0, privacy=Privacy("site", 1.0, 1e-5, gradient_clip=1.0))
    ),
    "noise per record under masks": changed(**MASKED, **rules(privacy=RECORD)),
    "moments of factors that are decomposed": changed(**rules(rule="stack-svd", optimizer=MOMENTUM)),
    "a server's step in method 2": changed(**SPLIT, **rules(optimizer=ADAM)),
    "momentum with what adapts": changed(**rules(optimizer=ServerOptimizer("fedavgm", 1.0, 0.9, 0.99))),
    "momentum with a tau": changed(**rules(optimizer=ServerOptimizer("fedavgm", 1.0, 0.9, None, 1e-3))),
    "what adapts, with nothing to adapt by": changed(**rules(optimizer=ServerOptimizer("fedyogi", 1.0, 0.9))),
    "adam without a tau": changed(**rules(optimizer=ServerOptimizer("fedadam", 1.0, 0.9, 0.99))),
    "a rate of zero": changed(**rules(optimizer=ServerOptimizer("fedavgm", 0.0, 0.9))),
    "momentum that never ends": changed(**rules(optimizer=ServerOptimizer("fedavgm", 1.0, 1.0))),
    "a proximal term in pooled batches": changed(**SPLIT, training=pulled(0.1), **rules()),
    "a push instead of a pull": changed(training=pulled(-0.1), **rules()),
    "a clip in method 2": changed(**SPLIT, **rules(clip=1.0)),
    "plaintext over data that is not public": changed(placement="plaintext", aggregation=PLAIN),
    "plaintext in bf16": public(
        changed(placement="plaintext", training=msgspec.structs.replace(MANIFEST.training, precision="bf16"))
    ),
    "plaintext that calls itself direct": public(changed(placement="plaintext", runtime="direct")),
    "plaintext in method 2": public(changed(placement="plaintext", **SPLIT)),
    "tables of cells that tell single rows": tables(4),
    "tables of fifty-one labels": tables(5, 51),
    "tables beside noise": changed(publication=Publication(cells=5), **rules(privacy=RECORD)),
    "tables of a model that writes": tables(5, 0, task="causal-lm"),
    "labels of a model that writes": tables(0, 2, task="causal-lm"),
    "a bound of zero": changed(**rules(clip=0.0)),
    "noise of zero": changed(**rules(clip=1.0, privacy=Privacy("site", 0.0, 1e-5))),
    "a delta of one": changed(**rules(clip=1.0, privacy=Privacy("site", 1.0, 1.0))),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_can_be_kept_is_a_manifest(case: str) -> None:
    assert parse(canonical(KEPT[case])) == KEPT[case]


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_kept_is_none(case: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse(canonical(BROKEN[case]))
    assert caught.value.code == "manifest.invalid"
