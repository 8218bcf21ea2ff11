"""What a release of Method 2 holds: tuned rows as differences from the base model's (PEFT has no format for
them). Made inside the split server's enclave; opened wherever it was released to."""

from __future__ import annotations

import numpy as np

from contracts.sealed.package import ROWS, Files
from enclave.slicing.released import LORA_PAIR, State, tensor_bytes


def row_files(state: State, start: State, rows: State) -> Files:
    """Method 2: tuned rows as differences from the base model's. `state` and `start` are the tail's tuned
    parameters, after and before training; `rows` says which rows they are.

    `rows/M` (tuned,) int64 and `delta/M` (tuned, inputs) are for the matrix (outputs, inputs) of the linear
    M; `lora_A/M` (rank, inputs) and `lora_B/M` (outputs, rank) add scale · B·A to it (`scale` of
    `release.json`); `value/P` replaces the parameter P.
    """
    tensors: State = {}
    for name, tensor in state.items():
        # A tail calls the model `model`; a linear with LoRA stands one level deeper.
        whole = name.removeprefix("model.").replace(".base_layer.", ".")
        pair = LORA_PAIR.fullmatch(whole)
        if pair is not None:
            tensors[f"lora_{pair['side']}/{pair['module']}"] = tensor
        elif name in rows:
            module = whole.removesuffix(".rows")
            tensors[f"rows/{module}"] = rows[name]
            tensors[f"delta/{module}"] = (tensor.astype(np.float64) - start[name]).astype(np.float32)
        else:
            tensors[f"value/{whole}"] = tensor
    return {ROWS: tensor_bytes(tensors)}
