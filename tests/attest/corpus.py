"""The genuine quotes of the shared corpus, as (case, collateral) pairs."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "attestation-corpus"
ABSENT = f"the corpus of genuine quotes is not at {FOLDER}"


@dataclass(frozen=True)
class Case:
    name: str
    file: str
    at: int
    window: tuple[int, int]
    expected: dict[str, Any]

    @property
    def id(self) -> str:
        return f"{self.name}-{self.file.removeprefix('collateral-').removesuffix('.json')}"

    @property
    def quote_path(self) -> Path:
        return FOLDER / self.name / "quote.bin"

    @property
    def collateral_path(self) -> Path:
        return FOLDER / self.name / self.file

    @property
    def quote(self) -> bytes:
        return _bytes(self.quote_path)

    @property
    def collateral(self) -> dict[str, str]:
        return dict(json.loads(_bytes(self.collateral_path)))

    @property
    def accepted(self) -> bool:
        return self.expected["result"] == "accept"


@cache
def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def cases() -> list[Case]:
    found = []
    for path in sorted(FOLDER.glob("*/meta.json")):
        meta = json.loads(path.read_text())
        for c in meta["collateral"]:
            window = (c["window"][0], c["window"][1])
            found.append(
                Case(meta["name"], c["file"], c["verify_at_unix"], window, c["expected_dcap_qvl_0_7_0"])
            )
    return found


CASES = cases()
ACCEPTED = [case for case in CASES if case.accepted]


def one(name: str, accepted: list[Case] = ACCEPTED) -> Case:
    """The first accepted case whose name starts so."""
    return next(case for case in accepted if case.name.startswith(name))
