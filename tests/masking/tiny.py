"""Tiny random models of each architecture, and an accelerator in the same process that remembers what it
saw."""

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    Glm4Config,
    GPT2Config,
    LlamaConfig,
    Qwen3Config,
)

from contracts.manifest import Lora, Prefix
from enclave.masking.layers import Store
from enclave.slicing.cut import cut
from enclave_host.accelerator import Multiplier, read_products

VOCABULARY = 61
_COMMON = {
    "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40, "vocab_size": VOCABULARY,
    "hidden_size": 24, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 64,
}  # fmt: skip
_TYPES = {
    "bert": lambda: BertConfig(
        **_COMMON, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=3
    ),
    "gpt2": lambda: GPT2Config(
        n_embd=24, n_layer=2, n_head=4, n_positions=64, vocab_size=VOCABULARY, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    ),
    "llama": lambda: LlamaConfig(**_COMMON, num_key_value_heads=2),
    "qwen3": lambda: Qwen3Config(**_COMMON, num_key_value_heads=2, head_dim=10, tie_word_embeddings=True),
    "glm4": lambda: Glm4Config(**_COMMON, num_key_value_heads=2, head_dim=6),
}  # fmt: skip
_TARGETS = {
    "bert": ("query", "value"),
    "gpt2": ("c_attn",),
    "llama": ("q_proj", "v_proj"),
    "qwen3": ("q_proj", "up_proj"),
    "glm4": ("v_proj", "gate_up_proj"),
}
ARCHITECTURES = tuple(_TYPES)


def model(name, seed=0):
    """A random model of the architecture, without dropout."""
    torch.manual_seed(seed)
    automatic = AutoModelForSequenceClassification if name == "bert" else AutoModelForCausalLM
    made = automatic.from_config(_TYPES[name](), attn_implementation="eager")
    for parameter in made.parameters():  # larger than usual, so that layers matter
        if parameter.dim() > 1:
            parameter.data.mul_(4.0)
    return made.eval()


def adapter(name, kind):
    """LoRA of rank 3 on the architecture's usual targets, or a prefix of 4."""
    return Lora(3, 6, _TARGETS[name]) if kind == "lora" else Prefix(4)


def cut_model(name, kind, folder, seed=5):
    """A tiny model, cut."""
    return cut(model(name), adapter(name, kind), seed, Store(folder / "store"))


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
        self.words = torch.empty(rows, product.inner, dtype=torch.int32)
        return self.words

    def send(self, product, rows):
        self.seen.append((product, self.words.clone()))
        answer = torch.empty(rows, product.outer, dtype=torch.int32)
        self._multiplier.multiply(product.number, self.words, answer)
        self._answers.append(answer)

    def answer(self):
        return self._answers.pop(0)
