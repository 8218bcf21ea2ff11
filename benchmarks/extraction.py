"""How much of the tuned parameters a host gets out of client slices: `python -m benchmarks.extraction`.

The attack that this project once lost to: a host handed a slice embedding vectors of its choice, had it
train and evaluate again as often as it liked, read the exact loss each time, and fitted the LoRA changes to
the answers. Here the coordinator and two of three hospitals attack the third with everything that they can
still do, over real processes: they ask again, ask out of turn, start slices again up to the manifest's
instances, and look at sizes and codes. What they hold in the end is their own rows, what they compute from
those by themselves, and the scores that everybody sees. Three guesses are compared with the true parameters
(this program owns the platform, and opens the aggregator's state; the attackers do not):

    alone      the attackers' own federation of their two hospitals, asking nobody anything
    fitted     the same, moved so that its losses are those that were published (and, generously, as if the
               attackers had the third hospital's validation rows, too)
    oracle     a fit to exact losses of chosen vectors, which no slice gives any more: that the fit can do it
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.func import functional_call
from transformers import AutoTokenizer

from contracts.manifest import Aggregation, Manifest, Training
from contracts.receipts import NO_RECEIPT
from contracts.refusal import Refusal
from contracts.rows import TextLabel
from enclave.programs.learner import load_learner
from enclave.slicing.adapters import tuned_parameters
from enclave.training.row_reader import encode
from enclave.training.tensors import State
from tests.programs.conftest import COMMON, DATASET_KEY, LABELS, WORDS, Consortium, House, hash_of

SITES = ("anna", "berta", "clara")
ATTACKERS, VICTIM = SITES[:2], SITES[2]


def silent(_news: dict[str, Any]) -> None:
    """Nobody looks at the progress."""


@dataclass
class Seen:
    """All that the attackers have seen. `codes` are of refusals; `sizes` of sealed answers, in bytes."""

    published: list[dict[str, float]] = field(default_factory=list)
    sizes: set[int] = field(default_factory=set)
    codes: dict[str, int] = field(default_factory=dict)
    answers: int = 0
    instances: int = 1

    def ask(self, slice_: Any, op: str, **arguments: Any) -> dict[str, Any] | None:
        """One question of a host to its slice, and what of the answer a host can use."""
        try:
            reported: dict[str, Any] = slice_.call(op, **arguments)
        except Refusal as refusal:
            self.codes[refusal.code] = self.codes.get(refusal.code, 0) + 1
            return None
        self.answers += 1
        assert set(reported) == {"update", "samples", "previous", "measures"}, (
            "an answer holds more than it should"
        )
        self.sizes.add(reported["update"]["bytes"])
        return reported


class Run:
    """The attacked run: real enclaves, and hosts that use every freedom in each round."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.house = House(folder / "house", SITES)
        training = Training(rounds=rounds, local_epochs=2, batch_size=4, learning_rate=0.01, seed=7)
        rules = Aggregation("fedavg", quorum=2, deadline_seconds=60)
        self.manifest = self.house.manifest(training=training, aggregation=rules)
        self.world = Consortium(self.house, folder / "run", self.manifest)
        self.aggregator = self.world.aggregator()
        self.slices = {site: self.world.client(site, self.aggregator) for site in SITES}
        self.seen = Seen()

    def play(self) -> State:
        """All rounds; the true parameters after the last."""
        previous, rounds = None, self.manifest.training.rounds
        for number in range(1, rounds + 2):
            op = "train" if number <= rounds else "evaluate"
            blobs = {site: self.answer(site, op, number, previous) for site in SITES}
            last = NO_RECEIPT if previous is None else hash_of(previous["receipt"])
            result = self.aggregator.call("aggregate", round=number, **self.world.roster(number, blobs, last))
            self.seen.published.append(result["metrics"].get("pooled", {}))
            if number <= rounds:
                previous = self.world.publish(result, self.aggregator, self.slices)
                previous = self.another_life(previous, number)
                truth = self.world.parameters(self.aggregator, result["state"]["sha256"])
        return truth

    def answer(self, site: str, op: str, number: int, previous: Any) -> str:
        """The round's answer of a site. Attackers ask for more, before and after."""
        slice_, asked = self.slices[site], {"round": number, "previous": previous}
        if site in ATTACKERS:
            self.seen.ask(slice_, "evaluate" if op == "train" else "train", **asked)
        reported = self.seen.ask(slice_, op, **asked)
        assert reported is not None
        if site in ATTACKERS:
            assert self.seen.ask(slice_, op, **asked) == reported, "asked again, it computes again"
            self.seen.ask(slice_, op, round=number - 1, previous=previous)
        return str(self.world.move(reported["update"]["sha256"], slice_, self.aggregator))

    def another_life(self, previous: Any, number: int) -> Any:
        """Between two rounds the attackers start one slice again, as often as they are allowed: it answers
        nothing but a sealed file."""
        site = ATTACKERS[0]
        again = self.world.client(site, load=True)
        try:
            self.world.introduce(self.aggregator, again, site)
            given = self.aggregator.call("reissue")
        except Refusal as refusal:
            self.seen.codes[refusal.code] = self.seen.codes.get(refusal.code, 0) + 1
            again.stop()
            return previous
        self.seen.instances += 1
        self.slices[site] = again
        for slice_ in self.slices.values():
            self.world.move(given["next"]["sha256"], self.aggregator, slice_)
        return {**previous, "sha256": given["next"]["sha256"], "reissue": given["reissue"]}


class Guesser:
    """What the attackers compute by themselves, with the code that is public."""

    def __init__(self, manifest: Manifest, house: House) -> None:
        self.manifest, self.folder = manifest, house.model
        self.learners = {
            site: load_learner(manifest, site, house.model, house.rows[site], DATASET_KEY) for site in SITES
        }
        self.model = self.learners[VICTIM].model.eval()
        self.names = list(tuned_parameters(self.model))
        self.full = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.start = self.flat(self.learners[VICTIM].initial)

    def flat(self, state: State) -> torch.Tensor:
        """All tuned parameters in one vector, float64."""
        return torch.cat(
            [torch.from_numpy(np.array(state[name], np.float64)).flatten() for name in self.names]
        )

    def state(self, flat: torch.Tensor) -> State:
        """The reverse."""
        found, at = {}, 0
        for name, parameter in zip(self.names, self.full.values(), strict=True):
            part = flat[at : at + parameter.numel()].detach().reshape(parameter.shape)
            found[name], at = part.to(torch.float32).numpy(), at + parameter.numel()
        return found

    def alone(self) -> list[torch.Tensor]:
        """The tuned parameters after each round of a federation of the attackers' hospitals alone."""
        now, after = self.learners[ATTACKERS[0]].initial, []
        for number in range(1, self.manifest.training.rounds + 1):
            made = []
            for site in ATTACKERS:
                learner = self.learners[site]
                learner.start_from(now)
                made.append((len(learner.training), learner.train(number, silent)[1]))
            whole = sum(weight for weight, _ in made)
            now = {name: sum(w / whole * state[name] for w, state in made) for name in now}
            after.append(self.flat(now))
        return after

    def logits(self, flat: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """The model's answer under these tuned parameters, differentiable in them."""
        placed, at = {}, 0
        for name, parameter in self.full.items():
            placed[name] = flat[at : at + parameter.numel()].reshape(parameter.shape)
            at += parameter.numel()
        answer: torch.Tensor = functional_call(self.model, placed, kwargs=inputs).logits
        return answer

    def pooled(self, flat: torch.Tensor) -> torch.Tensor:
        """The mean loss over all hospitals' validation rows."""
        losses, rows = [], 0
        for learner in self.learners.values():
            for batch in learner.validation.evaluation_batches(64):
                found = self.logits(flat, **batch.inputs)
                losses.append(torch.nn.functional.cross_entropy(found, batch.targets, reduction="sum"))
                rows += batch.rows
        return torch.stack(losses).sum() / rows

    def fitted(self, alone: list[torch.Tensor], published: list[dict[str, float]]) -> torch.Tensor:
        """`alone`, moved as little as the published losses ask for: one move, which grows with the rounds."""
        rounds = len(alone)
        # The scores of round r are of the parameters before it; the closing round's are of the last.
        reported = [
            (number, scores["loss"]) for number, scores in enumerate(published) if number and "loss" in scores
        ]
        move = torch.zeros_like(self.start, requires_grad=True)
        steps = torch.optim.Adam([move], lr=3e-3)
        for _ in range(120):
            steps.zero_grad()
            misses = [self.pooled(alone[n - 1] + n / rounds * move) - loss for n, loss in reported]
            (torch.stack(misses).square().sum() + 1e-3 * move.square().sum()).backward()
            steps.step()
        return (alone[-1] + move).detach()

    def oracle(self, truth: torch.Tensor, answers: int) -> torch.Tensor:
        """The old attack's fit: exact losses for chosen vectors."""
        draw = torch.Generator().manual_seed(5)
        vectors = 2 * torch.randn(
            answers, 6, self.model.config.hidden_size, generator=draw, dtype=torch.float64
        )
        labels = torch.randint(len(LABELS), (answers,), generator=draw)

        def losses(flat: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(
                self.logits(flat, inputs_embeds=vectors), labels, reduction="none"
            )

        exact = losses(truth).detach()
        guess = self.start.clone().requires_grad_()
        fit = torch.optim.LBFGS(
            [guess], max_iter=160, history_size=60, line_search_fn="strong_wolfe", tolerance_change=0
        )

        def miss() -> torch.Tensor:
            fit.zero_grad()
            wrong = (losses(guess) - exact).square().mean()
            wrong.backward()
            return wrong

        fit.step(miss)
        return guess.detach()

    def changes(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """What tuning has changed: B·A of each pair (the pair itself is not unique), the head's values."""
        now, before, found = self.state(flat), self.state(self.start), {}
        for name in self.names:
            if ".lora_A." in name:
                other = name.replace(".lora_A.", ".lora_B.")
                found[name] = torch.from_numpy(now[other] @ now[name] - before[other] @ before[name])
            elif ".lora_B." not in name:
                found[name] = torch.from_numpy(now[name] - before[name])
        return found

    def compare(self, guess: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
        """Cosine of the LoRA changes (whole, worst, best layer) and of all; agreement on new texts."""
        found, right = self.changes(guess), self.changes(truth)
        lora = [name for name in right if ".lora_A." in name]
        each = [cosine(found[name], right[name]) for name in lora]
        return {
            "lora": cosine(*(torch.cat([part[name].flatten() for name in lora]) for part in (found, right))),
            "least": min(each),
            "most": max(each),
            "all": cosine(
                *(torch.cat([value.flatten() for value in part.values()]) for part in (found, right))
            ),
            "agreement": self.agreement(guess, truth),
        }

    @torch.no_grad()
    def agreement(self, guess: torch.Tensor, truth: torch.Tensor, texts: int = 400) -> float:
        """The share of new texts of nobody's on which two sets of parameters choose the same label."""
        draw = random.Random("others")
        rows = [
            TextLabel(
                " ".join(draw.choices([*COMMON, *WORDS["routine"], *WORDS["urgent"]], k=6)), LABELS[0], "test"
            )
            for _ in range(texts)
        ]
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        examples = encode(rows, tokenizer, self.manifest.model)
        same = 0
        for batch in examples.evaluation_batches(64):
            chosen = [self.logits(flat, **batch.inputs).argmax(-1) for flat in (guess, truth)]
            same += int((chosen[0] == chosen[1]).sum())
        return same / texts


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """Between -1 and 1; 0 where one of them is nothing."""
    length = one.norm() * other.norm()
    return float((one * other).sum() / length) if length else 0.0


def random_guess(guesser: Guesser, truth: torch.Tensor) -> torch.Tensor:
    """A change of the right size in no direction."""
    noise = torch.randn(len(truth), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return guesser.start + noise * (truth - guesser.start).norm() / noise.norm()


def figures(rounds: int, answers: int) -> Iterator[dict[str, Any]]:
    """One JSON object a figure."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), rounds)
        try:
            true_state, seen = run.play(), run.seen
        finally:
            run.world.close()
        guesser = Guesser(run.manifest, run.house)
        alone = guesser.alone()
        guesser.model.double()
        truth = guesser.flat(true_state)
        config = {"rounds": rounds, "unknowns": len(truth), "sites": 3, "attackers": 2}
        guesses = {
            "chance": random_guess(guesser, truth),
            "untuned": guesser.start,
            "alone": alone[-1],
            "fitted": guesser.fitted(alone, seen.published),
            "oracle": guesser.oracle(truth, answers),
        }
        looked = {
            "answers": seen.answers, "instances of one slice": seen.instances,
            "different sizes": len(seen.sizes), "refusals": seen.codes, "published": seen.published,
        }  # fmt: skip
        yield {
            "figure": "seen",
            "value": len(seen.published),
            "unit": "published scores",
            "config": config | looked,
        }
        for name, guess in guesses.items():
            found = guesser.compare(guess, truth)
            for what, value in found.items():
                yield {
                    "figure": f"extraction/{name}/{what}", "value": round(value, 3), "unit": "cosine, share",
                    "goal": None, "better": "lower", "config": config,
                }  # fmt: skip


def main() -> None:
    """Run the attack and print what it got."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--answers", type=int, default=3000, help="of the oracle that no slice is any more")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for figure in figures(options.rounds, options.answers):
        print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
