"""Local-only and centralised training on a run's own rows and settings, as a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from benchmarks.learning import baselines
from contracts.manifest import Lora, Spf, parse
from enclave_host import base_models

if __name__ == "__main__":
    torch.set_num_threads(2)
    request = json.loads(Path(sys.argv[1]).read_text())
    manifest = parse(request["manifest"].encode())
    files = {site: Path(file) for site, file in request["files"].items()}
    folder = base_models.resolve(manifest.model.source)
    adapter = manifest.adapter
    if isinstance(adapter, Spf):  # the yardstick is the same for both methods: LoRA on the whole model
        adapter = Lora(adapter.rank, adapter.alpha, ("query", "key", "value", "dense"))
    print(json.dumps(baselines(files, manifest.model, adapter, manifest.training, folder)))
