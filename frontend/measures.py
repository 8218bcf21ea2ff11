"""What a run's rounds have cost at the hospitals, as the run page shows it; the hosts' word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from federation.studies.models import Round


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
