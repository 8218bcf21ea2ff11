"""The accelerator: an untrusted process that multiplies words by public weights, and knows nothing else.

`python -m enclave_host.accelerator --weights DIR --channel FILE [--first N] [--device auto|cpu|cuda]`

It maps the int8 weights of a prepared model, makes the channel's file, and answers until it is stopped or its
parent ends. It sees public weights and uniform words; whatever it answers is checked. Runs on
the site's host, outside every trust boundary.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from contracts.architecture.numbering import layer_of
from contracts.refusal import Refusal
from enclave.masking.channel import ANSWERED, BEAT, SPINS, SharedFile
from enclave.masking.layers import INDEX, WEIGHTS, Product, StoredLayer, frozen_layers, oriented
from enclave.masking.residues import Packed
from enclave.masking.ring import Limbs
from enclave_host.channel_file import create_channel
from enclave_host.gpu import OnDevice
from enclave_host.product import NativeProduct, installed

logger = logging.getLogger(__name__)
BEAT_SECONDS = 0.2


class Multiplier:
    """All products of a store, on one device; on a CPU by the native product, where there is one."""

    def __init__(
        self,
        products: Iterable[tuple[Product, Tensor]],
        device: str = "cpu",
        native: NativeProduct | None = None,
    ) -> None:
        self._multiply: Callable[[Packed, Any, Packed], None]
        ready: Callable[[Tensor], Any]
        if native is not None:
            self._multiply, ready = native.multiply, native.pack
        else:
            self._multiply = Limbs().multiply if device == "cpu" else OnDevice(device).multiply
            ready = partial(Tensor.to, device=device)
        self._weights: dict[int, Any] = {}
        self._shapes: dict[int, tuple[int, int, int]] = {}
        for product, weight in products:
            self._weights[product.number] = ready(weight)
            self._shapes[product.number] = (product.outer, product.inner, product.limbs)

    def multiply(self, number: int, words: Packed, out: Packed) -> None:
        """(rows, inner) words × the product's weights -> (rows, outer) residues in `out`."""
        self._multiply(words, self._weights[number], out)

    def shape(self, number: int) -> tuple[int, int, int]:
        """(outer, inner, limbs) of a product. Raises KeyError for an unknown one."""
        return self._shapes[number]


class AcceleratorServer:
    """Answers a channel's requests in their order. Its methods are what a hostile accelerator changes."""

    def __init__(self, file: SharedFile, multiplier: Multiplier) -> None:
        self.file = file
        self.multiplier = multiplier
        self._request = 1

    def run(self, running: Callable[[], bool]) -> None:
        """Serve until `running` says no."""
        threading.Thread(target=self._beat, args=(running,), daemon=True).start()
        idle = 0
        while running():
            if self.answer_next():
                idle = 0
            elif (idle := idle + 1) > SPINS:
                time.sleep(min(1e-3, 1e-6 * (idle - SPINS)))

    def answer_next(self) -> bool:
        """Answer the next request, if there is one."""
        words, halves = self.file.line(self._request)
        if self.file.words[words] != np.uint64(self._request):
            return False
        number, rows = (int(value) for value in self.file.halves[halves + 4 : halves + 6])
        self.answer(number, rows)
        self.publish(number, rows)
        self._request += 1
        return True

    def answer(self, number: int, rows: int) -> None:
        """Multiply, from the request's area into the answer's."""
        outer, inner, limbs = self.multiplier.shape(number)
        words = self.file.request_area(self._request, rows, inner, limbs)
        self.multiplier.multiply(number, words, self.file.answer_area(self._request, rows, outer, limbs))

    def publish(self, number: int, rows: int) -> None:
        """Say that the answer is there; the number comes last."""
        words, halves = self.file.line(self._request)
        self.file.halves[halves + 6 : halves + 8] = number, rows
        self.file.words[ANSWERED] = self._request
        self.file.words[words + 1] = self._request

    def _beat(self, running: Callable[[], bool]) -> None:
        while running():
            self.file.words[BEAT] += np.uint64(1)
            time.sleep(BEAT_SECONDS)


def choose(device: str) -> tuple[str, str]:
    """`auto`, `cpu` or `cuda` -> the torch device, and a name for people."""
    if device != "cpu" and torch.cuda.is_available():
        return "cuda", f"{torch.cuda.get_device_name()} of {platform.node()}"
    return "cpu", f"CPU of {platform.node()}"


class _Listed(Struct):
    """What the accelerator reads of a prepared model's index (enclave/slicing/prepared.py)."""

    layers: tuple[StoredLayer, ...]


def read_products(folder: Path, first: int = 0) -> Iterator[tuple[Product, Tensor]]:
    """Every product with its (outer, inner) int8 weights, but of layers in front of number `first`.

    Raises: `accelerator.bad_store`.
    """
    try:
        stored = msgspec.json.decode((folder / INDEX).read_bytes(), type=_Listed).layers
        layers = frozen_layers(stored, {layer.name: torch.ones(layer.outputs) for layer in stored})
        flat = np.memmap(folder / WEIGHTS, dtype=np.int8, mode="r")
        for layer in layers.values():
            number = layer_of(layer.name)
            if number is not None and number < first:
                continue
            lies = flat[layer.offset : layer.offset + layer.outputs * layer.inputs]
            values = torch.from_numpy(lies.reshape(layer.outputs, layer.inputs).copy())
            for product in layer.products:
                yield product, oriented(values, product)
    except (OSError, ValueError, RecursionError, Refusal, msgspec.DecodeError) as error:
        raise Refusal("accelerator.bad_store", fault=type(error).__name__) from error


def main(arguments: list[str] | None = None) -> int:
    """Serve one client slice."""
    parser = argparse.ArgumentParser(prog="python -m enclave_host.accelerator", description=main.__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="the folder of the prepared model")
    parser.add_argument("--first", type=int, default=0, help="the first layer that is multiplied here")
    parser.add_argument("--channel", type=Path, required=True, help="the shared file to make")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--portable", action="store_true", help="without the native product, to compare")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--area", type=int, default=32 << 20, help="bytes of a slot's request or answer")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO)
    device, name = choose(options.device)
    native = installed() if device == "cpu" and not options.portable else None
    multiplier = Multiplier(read_products(options.weights, options.first), device, native)
    file = create_channel(options.channel, name, slots=options.slots, area=options.area)
    how = "native product" if native else "portable product"
    logger.info("accelerator on %s (%s) serves %s", name, how, options.channel)
    parent = os.getppid()
    try:
        AcceleratorServer(file, multiplier).run(lambda: os.getppid() == parent)
    except KeyboardInterrupt:
        pass
    finally:
        options.channel.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
