"""FlowerTune's medical recipe in miniature: twenty sites, a tenth of them drawn each round, SmolLM2.

    python -m benchmarks.flowertune [--optimizer fedadam] [--proximal 0.01] [--written 20]

As in docs/studies/flowertune-medical-7b.json: LoRA of rank 32 and alpha 64 on q and v, a cosine rate, answers
alone learnt. The model is SmolLM2-135M-Instruct, the rows synthetic discharge questions, and all runs in this
process, with the loop, the mean and the optimisers of the enclaves and none of their protection: what is
measured is the recipe. Sites are drawn here alone; no manifest draws any (docs/decisions/0044).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.demo.discharge import HOSPITALS, write_questions
from benchmarks.fedavg import fedavg
from benchmarks.learning import summary
from contracts.manifest import Lora, ModelSpec, ServerOptimizer, Training
from contracts.rows import PromptResponse
from enclave.programs.publication import pool
from enclave.slicing.adapters import adapt, load_tuned_state, tuned_state
from enclave.slicing.models import load
from enclave.training.agreement import ONE
from enclave.training.data import Examples
from enclave.training.loop import evaluate, train
from enclave.training.metrics import Scores
from enclave.training.row_reader import encode
from enclave.training.server_step import server_step
from enclave.training.tensors import State
from enclave.training.writing import AnswerWriter
from enclave_host.base_models import SMOLLM2, resolve
from enclave_host.pinning import pin

ADAPTER = Lora(32, 64, ("q_proj", "v_proj"))
SHOWN = ("exact_match", "stop_rate", "perplexity", "token_accuracy")


def sites_of(options: argparse.Namespace, spec: ModelSpec, tokenizer: Any) -> dict[str, list[Examples]]:
    """Training and test rows of each site, tokenised."""
    found: dict[str, list[Examples]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.sites):
            file = Path(folder) / f"{number}.jsonl"
            rows = (options.rows, 1, options.test_rows)
            write_questions(file, hospital=1 + number % HOSPITALS, rows=rows, seed=100 + number)
            read = [msgspec.json.decode(line, type=dict[str, str]) for line in file.read_bytes().splitlines()]
            parts = []
            for split in ("train", "test"):
                of_split = [
                    PromptResponse(r["prompt"], r["response"], split) for r in read if r["split"] == split
                ]  # type: ignore[arg-type]
                parts.append(encode(of_split, tokenizer, spec))
            found[f"site-{number:02}"] = parts
    return found


def scored(model: Any, sites: Mapping[str, list[Examples]], writer: AnswerWriter | None) -> dict[str, float]:
    """Pooled over the test rows of all sites; what is written too, where a writer is given."""
    each: list[Scores] = []
    for _, test in sites.values():
        found = evaluate(model, test, labels=0)
        each.append(found if writer is None else writer.scored(model, test, found, "fp32"))
    whole = pool(each)
    reported = {name: round(float(summary(whole)[name]), 4) for name in SHOWN}
    if whole.bins:
        rows, f1, rouge_l = whole.bins[0]
        reported |= {"token_f1": round(f1 / rows / ONE, 4), "rouge_l": round(rouge_l / rows / ONE, 4)}
    return reported


def run(options: argparse.Namespace) -> dict[str, Any]:
    """One run; scores before and after, and seconds."""
    folder = resolve(SMOLLM2)
    spec = ModelSpec(SMOLLM2, "causal-lm", pin(folder), (), 96, template="model")
    base, tokenizer = load(folder, spec)
    model, sites = adapt(base, ADAPTER, options.seed), sites_of(options, spec, tokenizer)
    training = Training(
        options.rounds, 1, options.batch, options.learning_rate, options.seed,
        schedule="cosine", proximal=options.proximal,
    )  # fmt: skip
    optimizer = _optimizer(options)
    writer = AnswerWriter(options.written, 32, tokenizer, b"m" * 32) if options.written else None
    draw, state, moments = random.Random(options.seed), tuned_state(model), dict[str, Any]()
    before, started = scored(model, sites, writer), time.monotonic()
    for number in range(1, options.rounds + 1):
        updates: list[tuple[int, State]] = []
        for site in sorted(draw.sample(sorted(sites), max(1, round(options.share * len(sites))))):
            load_tuned_state(model, state)
            result = train(model, sites[site][0], training, round=number, site=site)
            updates.append((result.samples, tuned_state(model)))
        mean = fedavg(updates)
        if optimizer is not None:
            mean, moments = server_step(optimizer, state, mean, moments)
        state = {name: tensor.astype("float32") for name, tensor in mean.items()}
        print(f"round {number} of {options.rounds}", file=sys.stderr, flush=True)
    seconds = time.monotonic() - started
    load_tuned_state(model, state)
    return {"before": before, "after": scored(model, sites, writer), "seconds": round(seconds, 1)}


def _optimizer(options: argparse.Namespace) -> ServerOptimizer | None:
    if options.optimizer == "none":
        return None
    if options.optimizer == "fedavgm":
        return ServerOptimizer("fedavgm", options.server_rate or 1.0, 0.9)
    return ServerOptimizer(options.optimizer, options.server_rate or 0.01, 0.9, 0.99, 1e-3)


def main(arguments: Sequence[str] | None = None) -> int:
    """One JSON line a score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sites", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.1, help="of the sites, drawn each round")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=24, help="training rows of a site")
    parser.add_argument("--test-rows", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--optimizer", default="none", choices=("none", "fedavgm", "fedadam", "fedyogi"))
    parser.add_argument("--server-rate", type=float)
    parser.add_argument("--proximal", type=float, default=0.0)
    parser.add_argument("--written", type=int, default=0, help="answers that the model writes, of each site")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    found, config = run(options), vars(options)
    for when in ("before", "after"):
        for name, value in found[when].items():
            better = "lower" if name == "perplexity" else "higher"
            line = {"figure": f"flowertune.{name}.{when}", "value": value, "unit": "1", "goal": None}
            print(json.dumps({**line, "better": better, "config": config}))
    line = {
        "figure": "flowertune.seconds",
        "value": found["seconds"],
        "unit": "s",
        "goal": None,
        "better": "lower",
    }
    print(json.dumps({**line, "config": config}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
