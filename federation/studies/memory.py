"""How much memory a process takes at its peak, from shapes alone: the program, the weights as it keeps them,
what it tunes, and the activations of what goes through it together.

`python -m benchmarks.llm` and tests/federation/test_memory_estimates.py hold these figures against measured
peaks (VmHWM). Of a text that is written every token is taken to be learnt, and
every text to be as long as the longest: less of either takes less.
"""

from __future__ import annotations

from typing import Any

from contracts.architecture.layers import linears_of
from contracts.architecture.rows import row_of
from contracts.manifest import Lora, Spf
from federation.studies.workload import FLOAT, Workload, answering_weights, layer_weights

PROGRAM = 330 << 20
"""Bytes of a process before it has a model: torch, transformers, a tokenizer, and pages of libraries."""
MASKING = 60 << 20
"""What masks, checks and buffers of a masked slice take beside."""
EVALUATED = 16
"""Rows that are scored together (enclave/training/loop.py)."""
FRONT_TOKENS = 2048
"""Tokens that a site's front computes together (site_agent/methods/shard_making.py)."""
WIDENED = 1 << 26
"""Numbers of a frozen matrix that are made float32 together (enclave/slicing/kept.py)."""
TUNED = 2 * FLOAT + 8 + FLOAT
"""Of a tuned parameter: itself, its gradient, AdamW's two moments, and what the run began with."""
HASH = 32
SECRET = 8 * 4 * 2
"""Of each input and output of a masked layer: four digits of a secret in both directions."""
RESIDUE = 3
ON_THE_WAY = 3.5
"""Times a product is there in residues: in two requests of half its rows and their answers, in pads, and half
of it in masks."""


def front_bytes(config: Any, work: Workload, *, streamed: bool = False) -> int:
    """The process that runs the layers before the cut, at a hospital; `streamed`, it has one at a time, in
    float32, as its agent does where all would not fit."""
    weights = FLOAT * layer_weights(config) if streamed else work.cut * layer_weights(config) * work.held
    weights += HASH * config.vocab_size
    tokens = max(work.tokens, min(FRONT_TOKENS, max(work.rows, default=FRONT_TOKENS) * work.tokens))
    wide = 0 if streamed else _widened(config, work)
    return PROGRAM + weights + FLOAT * (wide + tokens * _passing(config, work))


def tail_bytes(config: Any, work: Workload, trained: int) -> int:
    """The layers behind the cut and the answering layer, tuned inside; without features."""
    layers = config.num_hidden_layers - work.cut
    weights = (layers * layer_weights(config) + answering_weights(config, work)) * work.held
    return PROGRAM + weights + TUNED * trained + _steps(config, work, layers, _widened(config, work))


def whole_bytes(config: Any, parameters: int, work: Workload, trained: int) -> int:
    """A whole model in float32, as a client slice holds it that has no public front."""
    steps = _steps(config, work, config.num_hidden_layers)
    return PROGRAM + FLOAT * parameters + TUNED * trained + steps


def masked_bytes(config: Any, work: Workload, trained: int) -> int:
    """A client slice whose frozen linears are outside. A layer's int8 weights come in as they are, and are
    turned; those of inputs that are shared come in together. What goes to the accelerator and comes back lies
    in a file that both map, as long as the widest product of a step; beside it are its pads and its masks."""
    layers, answers = config.num_hidden_layers - work.cut, answering_weights(config, work)
    sizes: dict[str, int] = {}
    outputs: dict[str, int] = {}
    for linear, (_, role, source, _) in zip(linears_of(config), row_of(config).linears, strict=True):
        group = f"{role} {source}"
        sizes[group] = sizes.get(group, 0) + linear.inputs * linear.outputs
        outputs[group] = outputs.get(group, 0) + linear.outputs
    secrets = SECRET * layers * sum(linear.inputs + linear.outputs for linear in linears_of(config))
    if answers:
        secrets += SECRET * (config.vocab_size + config.hidden_size)
    largest = 2 * max(answers, *sizes.values())
    tables = FLOAT * _tables(config) + HASH * config.vocab_size
    widest = max(round(config.vocab_size * work.learnt) if answers else 0, *outputs.values())
    outside = round(ON_THE_WAY * RESIDUE * _tokens_at_once(work) * widest)
    steps = _steps(config, work, layers)
    return PROGRAM + MASKING + secrets + largest + tables + outside + TUNED * trained + steps


def _tokens_at_once(work: Workload) -> int:
    """Of a training step, or of a piece of one."""
    return min(work.batch, work.at_once or work.batch) * work.tokens


def _steps(config: Any, work: Workload, layers: int, widened: int = 0) -> int:
    """The larger of a training step and an evaluation. A layer works with its `widened` matrix; scores of a
    vocabulary stand there three times (as they are, at what is learnt, and as logarithms), or once beside the
    answering layer's own wide matrix."""
    written = round(config.vocab_size * work.learnt) if work.labels == 0 else 0
    answering = min(WIDENED, answering_weights(config, work)) if widened else 0

    def passing(tokens: int) -> int:
        scores = tokens * written
        return max(tokens * _passing(config, work) + widened, 3 * scores, scores + answering)

    scored = min(EVALUATED, work.at_once or EVALUATED, max(work.rows, default=EVALUATED)) * work.tokens
    tokens, each = _tokens_at_once(work), _kept(config, work)
    kept = layers * config.hidden_size + each if work.checkpointing else layers * each
    return FLOAT * max(passing(scored), tokens * kept + passing(tokens))


def _kept(config: Any, work: Workload) -> int:
    """Numbers that a layer keeps of a token for the backward pass: what its two norms were given, queries,
    keys and values as all heads see them, the heads' weights, what the activation was given and (gated) has
    made, and the inputs of what is tuned."""
    linears = {linear.path: linear for linear in linears_of(config)}
    wide = sum(part.rows for part in linears_of(config)[0].parts if part.name == "q")
    into = inner = 0
    tuned: dict[str, int] = {}
    for path, role, source, _ in row_of(config).linears:
        linear = linears[path]
        if source == "intermediate":
            inner = linear.inputs
        elif role == "dense":
            into += linear.outputs
        if _tunes(work, path, role):
            tuned[f"{role == 'dense'} {source}"] = linear.inputs
    gated = inner if into > inner else 0
    attention = 3 * wide + config.num_attention_heads * work.tokens
    return 2 * config.hidden_size + attention + into + gated + sum(tuned.values())


def _tunes(work: Workload, path: str, role: str) -> bool:
    if isinstance(work.adapter, Lora):
        return any(path == target or path.endswith(f".{target}") for target in work.adapter.targets)
    if isinstance(work.adapter, Spf):
        ratio = work.adapter.attention if role == "attention" else work.adapter.dense
        return role in work.adapter.lora or (ratio > 0 and (role == "attention" or role in work.adapter.rows))
    return False


def _passing(config: Any, work: Workload) -> int:
    """Numbers that a layer holds of a token at a time."""
    inner = max(linear.inputs for linear in linears_of(config))
    return 3 * config.hidden_size + max(3 * inner, 3 * config.num_attention_heads * work.tokens)


def _widened(config: Any, work: Workload) -> int:
    """Numbers of a layer's largest matrix, which is made float32 for a product where it is kept shorter."""
    largest = max(linear.inputs * linear.outputs for linear in linears_of(config))
    return largest if work.held < FLOAT else 0


def _tables(config: Any) -> int:
    """Numbers of an encoder's position table, which stays inside."""
    learnt = not row_of(config).writes or row_of(config).model_type == "gpt2"
    positions: int = getattr(config, "max_position_embeddings", 0) if learnt else 0
    return positions * config.hidden_size


def outside_bytes(config: Any, work: Workload) -> int:
    """What an accelerator holds: the linears of the layers behind a public front as int8, and the answering
    layer."""
    layers = config.num_hidden_layers - work.cut
    return layers * layer_weights(config) + answering_weights(config, work)
