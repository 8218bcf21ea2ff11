"""A sweep in words: in what its runs differ, what they tell together, and how many results may come out.

One signature covers all of them, so they may differ in nothing but what stands in the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from msgspec.structs import replace

from contracts.approvals import Sweep
from contracts.manifest import Manifest, Spf
from manifest_summary.facts import Fact, Section, _
from privacy_accounting.epsilon import epsilon, planned
from translations.numbers import number


class SweepTable(NamedTuple):
    """`heads` are the names of what differs; `rows` its values, one row a run, in the order of the runs."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def points(manifests: Sequence[Manifest]) -> SweepTable:
    """What differs between the runs, of all that may."""
    differ = _differing(manifests)
    heads = tuple(head[:1].upper() + head[1:] for head in differ.values())
    return SweepTable(heads, tuple(zip(*differ, strict=True)) or ((),) * len(manifests))


def _differing(manifests: Sequence[Manifest]) -> dict[tuple[str, ...], str]:
    """Its values, one a run, and its name, written as in a sentence: German nouns are capitals there too."""
    shown: list[tuple[str, Callable[[Manifest], object]]] = [
        (_("heads"), lambda one: _percent(one, "attention")),
        (_("dense rows"), lambda one: _percent(one, "dense")),
        (_("selection"), lambda one: one.adapter.select if isinstance(one.adapter, Spf) else ""),
        (_("cut"), lambda one: one.split.cut if one.split else ""),
        (_("seed"), lambda one: one.training.seed),
        (_("seed of the selection"), lambda one: one.adapter.seed if isinstance(one.adapter, Spf) else ""),
        (_("clock not before"), lambda one: f"{datetime.fromtimestamp(one.minimum_time, UTC):%H:%M:%S} UTC"),
    ]
    differ: dict[tuple[str, ...], str] = {}  # what goes together is one column
    for head, value in shown:
        values = tuple(str(value(one)) for one in manifests)
        if len(set(values)) > 1:
            differ[values] = f"{differ[values]}, {head}" if values in differ else head
    return differ


def unlike(manifests: Sequence[Manifest]) -> list[str]:
    """The fields of a manifest that differ although a sweep's may not."""
    like = [_levelled(one, manifests[0]) for one in manifests]
    return [
        name
        for name in Manifest.__struct_fields__
        if any(getattr(one, name) != getattr(like[0], name) for one in like)
    ]


def terms(manifests: Sequence[Manifest], rows: int, root: str, releases: int, delta: float) -> Sweep:
    """What a hospital signs: what its so many training rows tell over all runs, rounded up, and of how many
    it allows the release: none where the manifests let nothing out."""
    texts = {
        level: epsilon(
            [
                step
                for one in manifests
                if one.aggregation.privacy is not None and one.aggregation.privacy.unit == level
                for step in planned(one.aggregation.privacy, one.training, rows)
            ],
            delta,
        )
        for level in ("site", "record")
    }
    bare = sum(one.aggregation.privacy is None for one in manifests)
    lets_out = manifests[0].release.rule not in ("nothing", "serve-only")
    allowed = min(releases, len(manifests)) if lets_out else 0
    by_site, by_record = (math.ceil(texts[level] * 1e4) / 1e4 for level in ("site", "record"))
    return Sweep(root, len(manifests), allowed, by_site, by_record, bare, delta)


def sweep_facts(signed: Sweep, manifests: Sequence[Manifest]) -> Section:
    """What one signature for all of them means."""
    heads = ", ".join(_differing(manifests).values()) or _("nothing but their names")
    runs = _("%(runs)s, by one signature; they differ in: %(heads)s. All else is the same in each")
    facts = [
        Fact(_("Runs"), runs % {"runs": signed.runs, "heads": heads}),
        Fact(_("Results that may be released"), _released(signed)),
        Fact(_("What they tell together"), _worth(signed)),
    ]
    return Section(_("One signature for a sweep"), tuple(facts))


def _released(signed: Sweep) -> str:
    if not signed.releases:
        return _("none")
    text = _("at most %(releases)s of %(runs)s; each is a request of its own, signed or not")
    return text % {"releases": signed.releases, "runs": signed.runs}


def _worth(signed: Sweep) -> str:
    parts = []
    for value, unit in ((signed.site, _("hospital")), (signed.record, _("training row"))):
        if value:
            words = _("at most epsilon %(value)s at delta %(delta)s per %(unit)s")
            parts.append(
                words % {"value": number(f"{value:.4g}"), "delta": number(f"{signed.delta:g}"), "unit": unit}
            )
    if signed.unbounded:
        words = _("%(runs)s of them add no noise: no sum bounds what these tell")
        parts.append(words % {"runs": signed.unbounded})
    return "; ".join(parts)


def _percent(manifest: Manifest, name: str) -> str:
    return number(f"{getattr(manifest.adapter, name):g} %") if isinstance(manifest.adapter, Spf) else ""


def _levelled(manifest: Manifest, like: Manifest) -> Manifest:
    """The manifest with all that may differ taken from another one."""
    level = replace(manifest, run=like.run, study=like.study, minimum_time=like.minimum_time)
    level = replace(level, training=replace(level.training, seed=like.training.seed))
    if isinstance(level.adapter, Spf) and isinstance(like.adapter, Spf):
        other = like.adapter
        ratios = {"attention": other.attention, "dense": other.dense}
        level = replace(level, adapter=replace(level.adapter, select=other.select, seed=other.seed, **ratios))
    if level.split is not None and like.split is not None:
        level = replace(level, split=replace(level.split, cut=like.split.cut))
    return level
