"""The summary of a manifest says all of it: whatever is changed in a manifest changes what people read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from contracts.canonical import canonical
from contracts.manifest import (
    Aggregation,
    DatasetRef,
    KeyShares,
    Lora,
    Manifest,
    Masking,
    ModelSpec,
    Prefix,
    Privacy,
    Publication,
    PublicFront,
    Release,
    ServerOptimizer,
    Site,
    Spf,
    Split,
    Training,
    TransparencyLog,
    parse,
)
from contracts.policy import CollateralFloor, Policy, SgxReference, TdxReference
from contracts.refusal import Refusal
from contracts.signing import SigningKey
from manifest_summary.summary import summary
from translations.spoken import speaking

KEYS = [SigningKey.generate().public for _ in range(6)]
SGX = SgxReference("aggregator", mrsigner="a" * 64, product_id=1, minimum_svn=2)
TDX = TdxReference("split_server", "b" * 96, ("c" * 96,) * 4, mrseams=("d" * 96,))
FLOOR = CollateralFloor("0" * 12, "processor", 1, 2, 3, 4, 5, 6, 7, 8)
LOG = TransparencyLog("log.example+1234", ("one.example+5678",))
ABOVE = {"version", "run", "study", "purpose"}
"""What stands above the summary as it is, and the format's own number."""


HARDWARE = Policy(
    "intel",
    "1" * 64,
    (SGX,),
    accepted_advisories=("INTEL-SA-1",),
    minimum_tcb_evaluation=17,
    floors=(FLOOR,),
)


def sites(*, public: bool = False) -> tuple[Site, ...]:
    return tuple(
        Site(
            f"site-{n}",
            name,
            KEYS[2 * n],
            KEYS[2 * n + 1],
            DatasetRef(f"ds-{n}", f"{n}" * 64, 100 + n, public),
        )
        for n, name in enumerate(("St. Anna", "St. Barbara", "St. Clara"))
    )


def manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "version": 1,
        "run": "run-1",
        "study": "Triage",
        "purpose": "Route messages",
        "method": "method-1",
        "placement": "all_in_tee",
        "runtime": "sgx",
        "model": ModelSpec(
            "m", "sequence-classification", {"a": "0" * 64}, ("x", "y"), 128, spellings={"X": "x"}
        ),
        "adapter": Lora(8, 16, ("query",)),
        "training": Training(2, 1, 8, 0.001, 7, warmup=0.1),
        "sites": sites(),
        "aggregation": Aggregation("fedavg", 2, 60, clip=1.0, max_samples=500),
        "policy": HARDWARE,
        "release": Release("export", 2),
        "minimum_time": 1_700_000_000,
        "log": LOG,
    }
    return Manifest(**{**fields, **changes})


KINDS = {
    "noise for each hospital": manifest(
        aggregation=Aggregation("fedavg", 2, 60, clip=1.0, privacy=Privacy("site", 2.0, 1e-5))
    ),
    "noise for each row": manifest(
        training=Training(2, 1, 8, 0.001, 7),
        aggregation=Aggregation("fedavg", 2, 60, privacy=Privacy("record", 2.0, 1e-5, gradient_clip=0.7)),
    ),
    "bounds": manifest(),
    "masked": manifest(placement="masked", masking=Masking(), adapter=Prefix(8)),
    "masked behind a public front": manifest(
        placement="masked", masking=Masking(accelerator="site"), front=PublicFront(1)
    ),
    "split, its key in shares": manifest(
        method="method-2",
        adapter=Spf(25.0, 12.5, select="random", seed=3),
        split=Split(2, shares=KeyShares(2)),
        aggregation=Aggregation("fedavg", 2, 60),
        training=Training(2, 1, 8, 0.001, 7, warmup=0.1, patience=3),
        runtime="development",
        policy=Policy("development", "1" * 64, (TDX,)),
    ),
    "a server that steps with momentum": manifest(
        training=Training(2, 1, 8, 0.001, 7, proximal=0.1),
        aggregation=Aggregation("fedavg", 2, 60, optimizer=ServerOptimizer("fedavgm", 1.0, 0.9)),
    ),
    "a server that adapts": manifest(
        adapter=Lora(8, 16, ("query",), dropout=0.25, rslora=True),
        aggregation=Aggregation("fedavg", 2, 60, optimizer=ServerOptimizer("fedadam", 0.01, 0.9, 0.99, 1e-3)),
    ),
    "a model that writes answers": manifest(
        model=ModelSpec("m", "causal-lm", {"a": "0" * 64}, (), 128, template="model"),
        publication=Publication(written_rows=32, written_tokens=64),
        sites=tuple(
            msgspec.structs.replace(site, dataset=msgspec.structs.replace(site.dataset, kind="messages"))
            for site in sites()
        ),
    ),
    "a slice that saves memory": manifest(training=Training(2, 1, 8, 0.001, 7, activations="again")),
    "questions with choices, packed": manifest(
        model=ModelSpec("m", "causal-lm", {"a": "0" * 64}, (), 128, template="model"),
        training=Training(2, 1, 8, 0.001, 7, packing=256, at_once=2),
        sites=tuple(
            msgspec.structs.replace(
                site, dataset=msgspec.structs.replace(site.dataset, kind="prompt-choices")
            )
            for site in sites()
        ),
    ),
    "any number of labels, with tables of the test": manifest(
        publication=Publication(cells=5),
        sites=tuple(
            msgspec.structs.replace(site, dataset=msgspec.structs.replace(site.dataset, kind="text-labels"))
            for site in sites()
        ),
    ),
    "tagged words": manifest(
        model=ModelSpec("m", "token-classification", {"a": "0" * 64}, ("O", "B-x", "I-x"), 128),
        sites=tuple(
            msgspec.structs.replace(site, dataset=msgspec.structs.replace(site.dataset, kind="token-tags"))
            for site in sites()
        ),
    ),
    "masked in C": manifest(
        placement="masked",
        masking=Masking(passes="native"),
        runtime="development",
        policy=Policy("development", "1" * 64, (SGX,)),
    ),
    "plaintext": manifest(
        placement="plaintext",
        runtime="development",
        policy=Policy("development", "1" * 64, (SGX,)),
        publication=Publication(4, 30),
        sites=sites(public=True),
    ),
}


def read(found: Manifest) -> str:
    return repr(summary(found, (100, 100, 100)))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value in what a manifest is in JSON."""
    if isinstance(value, dict | list) and value:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path


def others(value: Any) -> list[Any]:
    """Other values in its place; the first that its type takes is tried."""
    match value:
        case bool():
            return [not value]
        case int():
            return [2 * value + 60, value + 1]
        case float():
            return [value / 2, value + 0.25]
        case str() if set(value) <= set("0123456789abcdef") and value:
            return [("1" if value[0] != "1" else "2") + value[1:]]
        case str():
            words = (
                *("bf16", "cosine", "smallest", "per-site", "attention_output", "dense", "platform"),
                *("OutOfDate", "method-2", "masked", "all_in_tee", "development", "causal-lm", "stack-svd"),
                *("fedyogi", "serve-only", "client_slice", "site", "other"),
            )
            return [*(word for word in words if word != value), value + "2"]
    return []


def changed(found: Manifest) -> Iterator[tuple[str, Manifest]]:
    """The manifest with one value changed, for each value: where it is, and the manifest."""
    for path in leaves(msgspec.json.decode(canonical(found))):
        for other in others(_at(msgspec.json.decode(canonical(found)), path)):
            data = msgspec.json.decode(canonical(found))
            _at(data, path[:-1])[path[-1]] = other
            try:
                yield ".".join(map(str, path)), msgspec.convert(data, Manifest)
            except msgspec.ValidationError:
                continue
            break


def is_accepted(found: Manifest) -> bool:
    """Whether anybody could be asked to sign it."""
    try:
        return bool(parse(canonical(found)))
    except Refusal:
        return False


def _at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


@pytest.mark.parametrize("kind", KINDS)
def test_no_value_of_a_manifest_can_change_without_a_change_in_what_people_read(kind: str) -> None:
    found, tried, unseen = KINDS[kind], set(), []
    assert is_accepted(found)
    for where, other in changed(found):
        tried.add(where)
        if where not in ABOVE and is_accepted(other) and read(other) == read(found):
            unseen.append(where)
    assert unseen == []
    assert len(tried) > 40 and {"training.rounds", "release.rule", "sites.0.public_key"} <= tried


@pytest.mark.parametrize("kind", KINDS)
def test_facts_differ_in_name_within_a_section_so_that_none_hides_another(kind: str) -> None:
    twins = msgspec.structs.replace(KINDS[kind].sites[1], name="St. Anna")
    found = msgspec.structs.replace(KINDS[kind], sites=(KINDS[kind].sites[0], twins))
    for section in summary(found):
        names = [fact.name for fact in section.facts]
        assert len(set(names)) == len(names), section.title


def test_a_language_without_a_catalogue_is_english() -> None:
    with speaking("tlh"):
        assert "What leaves a hospital" in read(KINDS["bounds"])
