"""Local-only and centralised training on a run's own rows and settings, as a process of its own.

stdout has a line for each quarter of a training, and at last the result as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from benchmarks.learning import Tell, baselines
from contracts.manifest import Lora, Spf, parse
from contracts.progress import Progress
from enclave_host import base_models


def reported(names: dict[str, str]) -> Tell:
    """Tells each quarter of a training once. `names` are the hospitals' (site id -> name)."""
    last: dict[str, int] = {}

    def tell(who: str, progress: Progress) -> None:
        quarter = 4 * progress.done // progress.of
        if last.get(who) != quarter:
            last[who] = quarter
            print(f"{names.get(who, 'All rows in one place')}: {25 * quarter} %", flush=True)

    return tell


if __name__ == "__main__":
    torch.set_num_threads(2)
    request = json.loads(Path(sys.argv[1]).read_text())
    manifest = parse(request["manifest"].encode())
    files = {site: Path(file) for site, file in request["files"].items()}
    folder = base_models.resolve(manifest.model.source)
    adapter = manifest.adapter
    if isinstance(adapter, Spf):  # the yardstick is the same for both methods: LoRA on the whole model
        adapter = Lora(adapter.rank, adapter.alpha, ("query", "key", "value", "dense"))
    tell = reported({site.id: site.name for site in manifest.sites})
    print(json.dumps(baselines(files, manifest.model, adapter, manifest.training, folder, tell)))
