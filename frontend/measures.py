"""What a run's rounds have cost at the hospitals, as the run page shows it; the hosts' word."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from statistics import mean
from typing import Any

from enclave_jobs.runs.models import ContributionState, Round, Run
from frontend.templatetags.fedslice import COLOURS


def newest_measures(rounds: Iterable[Round], sites: Iterable[str]) -> list[dict[str, Any]]:
    """One line for each of these sites that has told measures: those of its newest round, rounds given in
    order. `cost` holds them; `checked` says whether an accelerator was at work."""
    lines: dict[str, dict[str, Any]] = {}
    for row in rounds:
        for made in row.contributions.all():
            if made.measures and made.site_id in sites:
                lines[made.site_id] = {
                    "site": made.site,
                    "round": row.number,
                    "cost": made.measures,
                    "accelerated": "checks" in made.measures,
                }
    return [lines[site] for site in sorted(lines)]


def burdens(
    rounds: Iterable[Round], sites: Iterable[str], took: dict[tuple[int, str], float]
) -> list[dict[str, Any]]:
    """One line for each of these hospitals: rounds that it is in, sealed bytes, mean seconds from taking its
    work to handing it in (`took`, by round and site), and both as shares of the largest, in per cent."""
    found: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = {}
    for row in rounds:
        for made in row.contributions.all():
            if made.site_id not in sites:
                continue
            line = found.setdefault(made.site_id, {"site": made.site, "rounds": 0, "bytes": 0})
            line["rounds"] += made.state == ContributionState.ACCEPTED
            line["bytes"] += made.bytes or 0
            if (row.pk, made.site_id) in took:
                times.setdefault(made.site_id, []).append(took[row.pk, made.site_id])
    for site, line in found.items():
        line["seconds"] = mean(times[site]) if site in times else None
        line["colour"] = line["site"].colour % COLOURS
    for name in ("bytes", "seconds"):
        most = max((line[name] or 0 for line in found.values()), default=0)
        for line in found.values():
            line[f"{name}_share"] = 100 * (line[name] or 0) / most if most else 0.0
    return [found[site] for site in sorted(found)]


def working_times(run: Run) -> dict[tuple[int, str], float]:
    """Seconds from when a hospital took its work to when it handed it in, by round and site."""
    began: dict[tuple[int, str], datetime] = {}
    took: dict[tuple[int, str], float] = {}
    kinds = ("contribution.leased", "contribution.submitted")
    events = run.events.filter(kind__in=kinds, site__isnull=False).order_by("pk")
    for kind, round_id, site, at in events.values_list("kind", "round_id", "site_id", "at"):
        key = (round_id, site)
        if kind == kinds[0]:
            began[key] = at
        elif key in began:
            took[key] = (at - began[key]).total_seconds()
    return took
