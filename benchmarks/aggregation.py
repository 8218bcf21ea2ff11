"""What an aggregation costs and how exact it is: `python -m benchmarks.aggregation`.

One round of three hospitals with LoRA on MiniLM (trained here for one epoch on real rows, so that the updates
are real ones), aggregated by each rule:

- `fedavg`, `ffa-lora`, `stack-svd`: as the aggregator's enclave does it, with each update sealed to it;
- `dp-fedavg`: `fedavg` with a clip (the median length of the changes) and noise per site;
- `ckks`: homomorphic encryption (Cheon et al., 2017) by TenSEAL, as systems without a TEE do it: sites scale
  and encrypt, the server adds ciphertexts, every site holds the key and decrypts the sum.

Figures by rule: `seconds` of the aggregation alone; `site_seconds` to seal and open (or encrypt and decrypt)
one update; `bytes` of one update as sent; `error`: ‖result − mean‖ / ‖mean − start‖ of what the rule
averages; `product_error`: ‖mean(B·A) − B'·A'‖ / ‖mean(B·A)‖. Public data only.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fedavg import fedavg
from benchmarks.hospitals import hospitals, label_names
from benchmarks.learning import study
from contracts.manifest import Lora, ModelSpec, Privacy, Training
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.stream import Binding, seal, unseal
from contracts.signing import SigningKey
from enclave.slicing.adapters import load_tuned_state, tuned_state
from enclave.slicing.frozen_a import freeze_a
from enclave.training.aggregate import State, Update
from enclave.training.clipping import clip
from enclave.training.loop import train
from enclave.training.noise import gaussian, site_deviation
from enclave.training.products import deviation
from enclave.training.stacking import stack_svd
from enclave.training.tensors import to_bytes
from enclave_host import base_models
from enclave_host.pinning import pin
from privacy_accounting.epsilon import epsilon, planned

RULES = ("fedavg", "ffa-lora", "stack-svd", "dp-fedavg", "ckks")
DEGREE, PRIMES, SCALE = 8192, [60, 40, 60], 2.0**40
"""CKKS for sums alone (no multiplication, hence one inner prime): 128 bits of security by the homomorphic
encryption standard, 4096 numbers a ciphertext."""


@dataclass
class Clock:
    """Seconds by name, one a repetition."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds.setdefault(name, []).append(time.perf_counter() - started)

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])


@dataclass(frozen=True)
class Sites:
    """One round: what all began with, and every site's rows and parameters after it."""

    start: State
    updates: list[Update]


@dataclass(frozen=True)
class Result:
    """What came out, what it should be, what was sent, and more for the table's config."""

    state: State
    exact: State
    bytes: int
    more: dict[str, Any] = field(default_factory=dict)


def train_sites(options: argparse.Namespace, *, frozen_a: bool) -> Sites:
    """One epoch at each hospital from the same start."""
    folder = base_models.resolve(base_models.EMBEDDED)
    rows = hospitals(options.data, rows=options.rows_per_site, test_rows=1)
    names = label_names(rows)
    spec = ModelSpec(base_models.EMBEDDED, "sequence-classification", pin(folder), names, 64)
    training = Training(1, 1, 16, 1e-3, seed=0)
    shared = study(rows, spec, Lora(options.rank, 16, ("query", "key", "value", "dense")), training, folder)
    model = shared.fresh()
    if frozen_a:
        freeze_a(model)
    start, updates = tuned_state(model), []
    for site, examples in shared.sites.items():
        load_tuned_state(model, start)
        result = train(model, examples, training, round=1, site=site)
        updates.append((result.samples, tuned_state(model)))
    return Sites(start, updates)


def in_enclave(sites: Sites, clock: Clock, rule: Callable[[list[Update]], State]) -> Result:
    """Seal one update, open it, aggregate all."""
    with clock.time("site"):
        size = _through_seal(to_bytes(sites.updates[0][1]))
    with clock.time("aggregation"):
        state = rule(sites.updates)
    return Result(state, _mean(sites.updates), size)


def dp_fedavg(sites: Sites, clock: Clock, options: argparse.Namespace) -> Result:
    """The rule that the aggregator's enclave follows for noise per site."""
    bound = statistics.median(_length(state, sites.start) for _, state in sites.updates)
    weights = [samples for samples, _ in sites.updates]
    noise = site_deviation(options.noise, bound, weights)

    def rule(updates: list[Update]) -> State:
        clipped = [(samples, clip(state, sites.start, bound)[0]) for samples, state in updates]
        mean = fedavg(clipped)
        return {
            name: (tensor + gaussian(tensor.shape, noise)).astype(np.float32) for name, tensor in mean.items()
        }

    result = in_enclave(sites, clock, rule)
    privacy = Privacy("site", options.noise, 1e-5)
    spent = epsilon(planned(privacy, Training(5, 1, 16, 1e-3, 0), 1), privacy.delta)
    more = {"clip": round(bound, 4), "noise_per_number": noise, "epsilon_after_5_rounds": round(spent, 2)}
    return Result(result.state, result.exact, result.bytes, more)


def ckks(sites: Sites, clock: Clock) -> Result:
    """Encrypted by the sites, added by the server, decrypted by the sites."""
    import tenseal

    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, DEGREE, coeff_mod_bit_sizes=PRIMES)
    context.global_scale = SCALE
    server = tenseal.context_from(context.serialize(save_secret_key=False))
    total, slots, sent = sum(samples for samples, _ in sites.updates), DEGREE // 2, []
    for number, (samples, state) in enumerate(sites.updates):
        started = time.perf_counter()
        flat = np.concatenate([tensor.flatten() for tensor in state.values()]).astype(np.float64)
        flat *= samples / total
        sent.append(
            [
                tenseal.ckks_vector(context, part.tolist()).serialize()
                for part in np.split(flat, range(slots, len(flat), slots))
            ]
        )
        if number == 0:
            encrypting = time.perf_counter() - started
    with clock.time("aggregation"):
        sums = [tenseal.ckks_vector_from(server, part) for part in sent[0]]
        for others in sent[1:]:
            for place, part in enumerate(others):
                sums[place] += tenseal.ckks_vector_from(server, part)
        answer = [part.serialize() for part in sums]
    started = time.perf_counter()
    key = context.secret_key()
    numbers = [n for part in answer for n in tenseal.ckks_vector_from(context, part).decrypt(key)]
    clock.seconds.setdefault("site", []).append(encrypting + time.perf_counter() - started)
    flat, state = np.array(numbers), {}
    for name, tensor in sites.start.items():
        state[name], flat = flat[: tensor.size].reshape(tensor.shape), flat[tensor.size :]
    more = {"ciphertexts": len(sent[0]), "degree": DEGREE, "primes": PRIMES}
    return Result(state, _mean(sites.updates), sum(map(len, sent[0])), more)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rules; one line a figure."""
    both, b_only = train_sites(options, frozen_a=False), train_sites(options, frozen_a=True)
    lines = []
    for rule in options.rules.split(","):
        clock, sites = Clock(), b_only if rule == "ffa-lora" else both
        for _ in range(options.repeats):
            if rule == "ckks":
                result = ckks(sites, clock)
            elif rule == "dp-fedavg":
                result = dp_fedavg(sites, clock, options)
            else:
                result = in_enclave(sites, clock, _stacked if rule == "stack-svd" else fedavg)
        config = {
            **{
                name: str(value) if isinstance(value, Path) else value
                for name, value in vars(options).items()
            },
            "numbers": sum(tensor.size for tensor in sites.start.values()),
            **result.more,
        }
        change = _length(result.exact, sites.start)
        product = deviation(sites.updates, result.state)
        values = {
            "seconds": (clock.median("aggregation"), "s"),
            "site_seconds": (clock.median("site"), "s"),
            "bytes": (result.bytes, "bytes"),
            # Of stack-svd the factors have no mean to be near to; its product does.
            "error": (None if rule == "stack-svd" else _length(result.state, result.exact) / change, "1"),
            "product_error": (product, "1"),
        }
        for name, (value, unit) in values.items():
            if value is not None:
                shown = value if unit == "bytes" else float(f"{value:.3g}")
                line = {"figure": f"aggregation.{name}.{rule}", "value": shown, "unit": unit}
                lines.append({**line, "goal": None, "better": "lower", "config": config})
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the lines and then the table."""
    options = _options(arguments)
    torch.set_num_threads(1)
    lines = measure(options)
    found: dict[str, dict[str, float]] = {}
    for line in lines:
        print(json.dumps(line), flush=True)
        _, name, rule = line["figure"].split(".")
        found.setdefault(rule, {})[name] = line["value"]
    names = ("seconds", "site_seconds", "bytes", "error", "product_error")
    print("\n" + f"{'rule':<12}" + "".join(f"{name:>15}" for name in names))
    for rule, values in found.items():
        cells = [f"{values[name]:>15.3g}" if name in values else f"{'–':>15}" for name in names]
        print(f"{rule:<12}" + "".join(cells))
    return 0


def _stacked(updates: list[Update]) -> State:
    return stack_svd(updates, fedavg(updates))


def _mean(updates: Sequence[Update]) -> State:
    return fedavg(
        [(samples, {n: t.astype(np.float64) for n, t in state.items()}) for samples, state in updates]
    )


def _length(state: State, start: State) -> float:
    return math.sqrt(math.fsum(float(np.square(state[n].astype(np.float64) - start[n]).sum()) for n in start))


def _through_seal(plain: bytes) -> int:
    """Seal to an enclave's key and open again; the bytes that travel."""
    sender, receiver, sealed, opened = SigningKey.generate(), HpkeKey.generate(), io.BytesIO(), io.BytesIO()
    binding = Binding("0" * 64, 1, "update", "site")
    seal(
        io.BytesIO(plain), sealed, binding=binding, recipients={"aggregator": receiver.public}, signer=sender
    )
    size = sealed.tell()
    sealed.seek(0)
    unseal(sealed, opened, binding=binding, recipient="aggregator", key=receiver, sender_key=sender.public)
    assert opened.getvalue() == plain
    return size


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.aggregation", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/datasets/medquad-qtype"))
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--rows-per-site", type=int, default=250)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--noise", type=float, default=1.0, help="in sensitivities, for dp-fedavg")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
