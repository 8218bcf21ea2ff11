"""What asking a served tail costs: part of `python -m benchmarks.split`.

- `serve_latency_over_local`: seconds from a tokenised text to its probabilities by way of the served tail
  (front, packing, sealing, the enclave's part with all its checks, opening) over those of the whole model at
  the same place. Real keys and the enclave's own code, in one process: the network is not in it.

Public code on random rows: nothing here is protected.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from contracts.approvals import Approval
from contracts.manifest import (
    Aggregation,
    DatasetRef,
    Manifest,
    ModelSpec,
    Release,
    Site,
    Spf,
    Split,
    Training,
)
from contracts.policy import Policy, SgxReference
from contracts.releases import SERVE, approve_release
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.session import ClientHello, decode, encode
from contracts.serving_calls import ServeArguments, StepArguments
from contracts.signing import SigningKey
from enclave.programs.clock import Clock
from enclave.programs.identity import Identity
from enclave.programs.serving import Serving
from enclave.slicing.questions import TailAnswers, ask_about, read_probabilities
from enclave.slicing.split import Front, Tail

PART_BYTES = 512 << 10
Act = Callable[[], object]


def rivals(model: PreTrainedModel, k: int, tokens: list[list[int]]) -> tuple[Act, Act]:
    """(asking the served tail about these texts, asking the whole model)."""
    device = next(model.parameters()).device
    labels = model.config.num_labels
    key, front, tail = (
        SigningKey.generate(),
        Front(copy.deepcopy(model), k),
        Tail(copy.deepcopy(model), k).eval(),
    )
    person = SigningKey.generate()
    manifest = _manifest(key, person, k, labels, max(map(len, tokens)))
    source: Any = None  # gives evidence, and nobody asks for it here
    own = HpkeKey.generate(), SigningKey.generate()
    approved = {"anna": Approval(("anna",), "")}
    identity = Identity("split_server", source, manifest, manifest.hash, Clock(0), *own, "0" * 64, approved)
    answers = TailAnswers(tail, manifest.model, "0" * 64)
    serving = Serving(identity, lambda: answers)
    order = approve_release(manifest, answers.receipt, "anna", person, ("anna",), rule=SERVE)
    serving.begin(ServeArguments(answers.receipt, {"anna": order}))
    keys = {"hpke_key": own[0].public, "signing_key": own[1].public}
    hello = ClientHello(manifest.hash, "anna", key, **keys, receipt=answers.receipt)
    reported = serving.open(hello.opening)
    channel = hello.finish(reported.session, decode(reported.proof))

    def served() -> list[list[float]]:
        question, reply = ask_about(front, tokens, 0), {}
        for start in range(0, len(question), PART_BYTES):
            more, number = start + PART_BYTES < len(question), channel.sent
            sealed = encode(channel.seal(question[start : start + PART_BYTES], more=more))
            reply = serving.step(StepArguments(channel.name, number, sealed, more))
        return read_probabilities(channel.open(decode(reply.sealed)), len(tokens), labels)

    longest = max(map(len, tokens))
    ids = torch.zeros(len(tokens), longest, dtype=torch.long, device=device)
    mask = torch.zeros_like(ids)
    for place, text in enumerate(tokens):
        ids[place, : len(text)] = torch.tensor(text)
        mask[place, : len(text)] = 1

    @torch.inference_mode()
    def local() -> list[list[float]]:
        found: list[list[float]] = model(ids, attention_mask=mask).logits.float().softmax(-1).tolist()
        return found

    return served, local


def _manifest(key: SigningKey, person: SigningKey, k: int, labels: int, tokens: int) -> Manifest:
    names = tuple(f"label {number}" for number in range(labels))
    return Manifest(
        version=1,
        run="benchmark",
        study="Benchmark",
        purpose="",
        method="method-2",
        placement="all_in_tee",
        runtime="development",
        model=ModelSpec("random", "sequence-classification", {"config.json": "0" * 64}, names, tokens),
        adapter=Spf(25.0, 25.0),
        training=Training(rounds=1, local_epochs=1, batch_size=1, learning_rate=1e-3, seed=0),
        sites=(Site("anna", "Anna", key.public, person.public, DatasetRef("notes", "0" * 64, 1)),),
        aggregation=Aggregation("fedavg", quorum=1, deadline_seconds=60),
        policy=Policy("development", "0" * 64, (SgxReference("split_server", mrenclave="0" * 64),)),
        release=Release("serve-only", 1),
        minimum_time=0,
        split=Split(k),
    )
