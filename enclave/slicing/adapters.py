"""The tuned parameters: LoRA on the linear layers that the manifest names, and the classification head.

Runs inside the enclave. The tuned state is what crosses the boundary (sealed): float32 tensors under the
names of the PEFT adapter format, so that a released adapter is a PEFT adapter.

Source: Hu et al., LoRA, arXiv 2106.09685.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from contracts.architecture.numbering import layer_of
from contracts.manifest import Lora
from contracts.refusal import Refusal
from enclave.slicing.lora import LINEARS, put_lora
from enclave.training.tensors import State

PEFT_PLACE = "base_model.model."
"""Where the PEFT adapter format sees a whole model stand."""


def adapt(model: PreTrainedModel, adapter: Lora, seed: int, first: int = 0) -> PreTrainedModel:
    """Freeze `model` and put trainable LoRA pairs on it, in place; let the head of a classification train.
    Behind a public front, pairs stand in the layers from number `first` on and nowhere else.

    The initial values depend on `seed` alone: A and the head's output layer are drawn, B and biases are
    zero.

    Raises: `adapter.unknown_target` when a target names no linear layer of the model.
    """
    head = head_modules(model)
    linears = [
        name
        for name, module in model.named_modules()
        if isinstance(module, LINEARS) and not name.startswith(head) and _may_carry(name, first)
    ]
    for target in adapter.targets:
        if not any(_ends_in(name, target) for name in linears):
            raise Refusal("adapter.unknown_target", target=target)
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        draw_output_layer(model, head[-1:])
        places = [name for name in linears if any(_ends_in(name, target) for target in adapter.targets)]
        put_lora(model, places, adapter)
    for name in head:
        model.get_submodule(name).requires_grad_(True)
    return model


def head_modules(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of the classification head: what a classifier has beside its base model, and its pooler.

    The pooler of a BERT comes from next-sentence pretraining, or from nothing; frozen, it held federated
    accuracy at 55 % after four rounds on medquad-qtype, where a tuned one came to 84 %. A causal LM has no
    head: its output layer stays frozen.
    """
    if not type(model).__name__.endswith(("ForSequenceClassification", "ForTokenClassification")):
        return ()
    base = model.base_model_prefix
    beside = [name for name, child in model.named_children() if name != base and list(child.parameters())]
    if getattr(getattr(model, base), "pooler", None) is not None:
        beside.insert(0, f"{base}.pooler")
    return tuple(beside)


def tuned_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by their names in the PEFT adapter format, in the model's own order."""
    place = PEFT_PLACE if isinstance(model, PreTrainedModel) else ""
    return {
        place + name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def tuned_state(model: nn.Module) -> State:
    """A copy of all trainable parameters, float32 arrays, shapes as in the model."""
    return {
        name: parameter.detach().cpu().numpy().copy() for name, parameter in tuned_parameters(model).items()
    }


def load_tuned_state(model: nn.Module, state: State) -> None:
    """Overwrite all trainable parameters. Names and shapes must equal the model's own.

    Raises: `tensors.names` or `tensors.shape`, and then nothing has changed.
    """
    parameters = tuned_parameters(model)
    if parameters.keys() != state.keys():
        raise Refusal("tensors.names")
    for name, parameter in parameters.items():
        if state[name].shape != parameter.shape:
            raise Refusal("tensors.shape", name=name)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.tensor(state[name]))


def _may_carry(name: str, first: int) -> bool:
    number = layer_of(name)
    return not first or (number is not None and number >= first)


def _ends_in(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def draw_output_layer(model: PreTrainedModel, head: tuple[str, ...]) -> None:
    """The layer that ends in the labels is always new; what stands before it may be pretrained."""
    deviation = getattr(model.config, "initializer_range", 0.02)
    for name in head:
        for module in model.get_submodule(name).modules():
            if isinstance(module, nn.Linear) and module.out_features == model.config.num_labels:
                nn.init.normal_(module.weight, std=deviation)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
