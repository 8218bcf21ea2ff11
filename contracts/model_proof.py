"""What was seen of a base model when it was loaded once: the proof that a registration stores.

Made by `enclave_host.proving` in a bounded child process. It names the files that it is about by their
SHA-256, so a model whose files are others has no proof. Pure; runs on every side outside of enclaves.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from contracts.kinds import Task
from contracts.policy import Hex32
from contracts.refusal import Fact, Refusal

Way = Literal["all_in_tee/lora", "all_in_tee/prefix", "masked/lora", "masked/prefix", "split/spf"]
"""A way to tune: a placement with an adapter."""
WAYS: tuple[Way, ...] = get_args(Way)


class Verdict(Struct, forbid_unknown_fields=True, frozen=True):
    """Of one way: one forward and one backward pass were made, or `code` and `facts` say why not."""

    code: str = ""
    facts: dict[str, Fact] = {}

    @property
    def proven(self) -> bool:
        return not self.code


class ModelProof(Struct, forbid_unknown_fields=True, frozen=True):
    """`parameters` and `bytes` are of all tensors in the files. `positions` are those that a text can really
    use; `vocabulary` counts rows of the embedding, `tokens` what the tokenizer knows. `new` are the tensors
    that the files lack (a classification head), `unused` those that the task does not need. `whole` is False
    where the model does not fit the memory: then every tensor was looked at, but the passes were made with
    one layer of each kind. `shape` has the numbers of the configuration from which costs are counted.
    `template`: whether the tokenizer has a chat template, by which an answer follows on its question.
    `prepared`: the hash of the model as masked client slices take it, which manifests pin; None where no
    masked way was proven, and in proofs of 0.1.0."""

    version: Literal[1]
    task: Task
    files: Annotated[dict[str, Hex32], Meta(min_length=1, max_length=200)]
    model_type: str
    parameters: Annotated[int, Meta(ge=1)]
    bytes: Annotated[int, Meta(ge=1)]
    layers: Annotated[int, Meta(ge=1)]
    positions: Annotated[int, Meta(ge=8)]
    vocabulary: Annotated[int, Meta(ge=1)]
    tokens: Annotated[int, Meta(ge=1)]
    special: dict[str, str]
    template: Literal["none", "fits", "unfit"]
    targets: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]
    whole: bool
    shape: dict[str, int | str]
    ways: dict[Way, Verdict]
    prepared: Hex32 | None = None

    def verdict(self, way: Way) -> Verdict:
        """What was found of this way; a way that was not tried is not proven."""
        return self.ways.get(way, Verdict("model.not_tried"))


def way_of(method: str, placement: str, adapter: str) -> Way:
    """The way of a plan. The baseline `plaintext` computes what `all_in_tee` computes."""
    if method == "method-2":
        return "split/spf"
    place = "masked" if placement == "masked" else "all_in_tee"
    return msgspec.convert(f"{place}/{adapter}", Way)


def read_proof(value: Any) -> ModelProof:
    """A proof that was stored or sent as JSON.

    Raises: `model.no_proof`.
    """
    try:
        return msgspec.convert(value, ModelProof)
    except msgspec.ValidationError as error:
        raise Refusal("model.no_proof", fault=str(error)[:200]) from error
