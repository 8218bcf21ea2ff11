"""Tiny random models of each architecture, and an accelerator in the same process that remembers what it
saw."""

import torch

from benchmarks import small_models
from contracts.architecture.table import ARCHITECTURES as TABLE
from contracts.manifest import Prefix
from enclave.masking.engine import LayerWork
from enclave.masking.residues import WIDTHS, Packed
from enclave_host.accelerator import Multiplier, read_products
from enclave_host.unmasked import WrittenStore, cut_in_memory
from enclave_host.words import room_for
from tests.support.families import tried

VOCABULARY = 61
ARCHITECTURES = small_models.FAMILIES
KINDS = ("lora", "prefix")
WAYS = tuple((name, kind) for name in ARCHITECTURES for kind in KINDS if kind == "lora" or TABLE[name].prefix)
"""Every family with every adapter that it can carry."""
USUAL = [way if way[1] == "lora" else tried([way])[0] for way in WAYS]
"""The same, prefixes of the rarer families in the long tests only."""


def sorts(name):
    """Whether the family is tried as a classifier: those that write are tried as causal LMs."""
    return not TABLE[name].writes


def model(name, seed=0):
    """A random model of the architecture, without dropout, two layers deep."""
    head = "classifier" if sorts(name) else "lm"
    return small_models.model(name, head, seed, layers=2, vocabulary=VOCABULARY, positions=64)


def adapter(name, kind):
    """LoRA of rank 3 on the architecture's usual targets, or a prefix of 4."""
    return small_models.lora(name) if kind == "lora" else Prefix(4)


def cut_model(name, kind, folder, seed=5, widths=WIDTHS):
    """A tiny model, cut."""
    return cut_in_memory(model(name), adapter(name, kind), seed, WrittenStore(folder / "store", widths))


def times(engine, product, features):
    """(rows, inner) float32 by one product of the engine, as a part of a layer would be."""
    result = torch.empty(len(features), product.outer)
    engine.multiply(LayerWork((product,), features, None, None, result))
    return result


class LocalAccelerator:
    """Multiplies in this process. `seen` holds (product, words) of every request, byte for byte."""

    name = "local"
    ahead = 2

    def __init__(self, folder, rows=13):
        self._multiplier = Multiplier(read_products(folder))
        self._rows = rows
        self._answers = []
        self.seen = []

    def rows(self, product):
        return self._rows

    def request(self, product, rows):
        self.words = room_for(rows, product.inner, product.limbs)
        return self.words

    def send(self, product, rows):
        self.seen.append((product, Packed(self.words.low.copy(), self.words.high.copy())))
        answer = room_for(rows, product.outer, product.limbs)
        self._multiplier.multiply(product.number, self.words, answer)
        self._answers.append(answer)

    def answer(self):
        return self._answers.pop(0)
