"""Figures that are kept as they come: a benchmark of forty minutes that is interrupted has lost none."""

from __future__ import annotations

import json
import math
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

UNITS = {"mb": "MB", "seconds": "s"}
COUNTS = ("runs_concurrent", "exponent", "ratio", "requests", "rounds")


class KeptFigures:
    """Prints each figure as a line, and writes all so far into one JSON file. `config` stands in each."""

    def __init__(self, file: Path, **config: Any) -> None:
        self._file, self._config = file, config
        self._found: dict[str, Any] = {"began": _now(), "whole": False, "failed": {}, "figures": []}

    def tell(self, name: str, value: float, goal: float | None = None, **more: Any) -> None:
        """One figure, by its name."""
        last = name.rpartition("_")[2]
        unit = "1" if name in COUNTS or last in COUNTS else UNITS.get(last, last)
        unit = "MB/s" if name.endswith("mb_per_s") else unit
        better = "higher" if name in ("runs_concurrent", "upload_mb_per_s") else "lower"
        rounded = float(f"{value:.4g}") if math.isfinite(value) else None
        config = {**self._config, "load": round(os.getloadavg()[0], 1), **more}
        line = {"figure": name, "value": rounded, "unit": unit, "goal": goal, "better": better}
        self._found["figures"].append(line | {"config": config})
        print(json.dumps(line | {"config": config}), flush=True)
        self._write()

    def failed(self, part: str, fault: BaseException) -> None:
        """A part that could not be measured, and why, the first fault first; the others go on."""
        first = fault
        while first.__context__ is not None:
            first = first.__context__
        named = [f"{type(each).__name__}: {each}"[:2000] for each in dict.fromkeys((first, fault))]
        self._found["failed"][part] = "; then ".join(named)
        print(json.dumps({"failed": part, "why": self._found["failed"][part]}), flush=True)
        self._write()

    def end(self) -> int:
        """The table for people. Status 1 where a part failed."""
        self._found |= {"whole": not self._found["failed"], "ended": _now()}
        self._write()
        for line in self._found["figures"]:
            goal = "" if line["goal"] is None else f"  (goal {line['goal']:g})"
            sites = line["config"].get("sites", "")
            sys.stdout.write(f"{line['figure']:>24}  {sites!s:>20}  {line['value']:10.4g}{goal}\n")
        return 1 if self._found["failed"] else 0

    def _write(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self._found, indent=1) + "\n")
        fresh.replace(self._file)


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
