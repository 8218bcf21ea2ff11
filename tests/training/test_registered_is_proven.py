"""A base model is offered for what it was seen to do, and refused for what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaModel,
)

from contracts.manifest import Lora, Spf
from contracts.model_proof import WAYS, ModelProof
from contracts.refusal import Refusal
from enclave_host.bounded import ChildLimits
from enclave_host.child_calls import ChildProgress, Prove, TryStudy
from enclave_host.proving import prove
from enclave_host.proving.registration import proof_of, try_study
from error_catalogue import CATALOGUE, explain
from tests.training.conftest import make_tokenizer

WHOLE = 1 << 40
CLASSIFICATION, CAUSAL = "sequence-classification", "causal-lm"
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def proven(folder: Path, task: str = CLASSIFICATION, whole: int = WHOLE) -> ModelProof:
    """What the child says, without the child."""
    return proof_of(Prove(str(folder), task, (), whole), lambda _: None)


def refused(folder: Path, task: str = CLASSIFICATION) -> Refusal:
    with pytest.raises(Refusal) as caught:
        proven(folder, task)
    assert caught.value.code in CATALOGUE
    words = explain(caught.value.code, caught.value.facts)
    assert "?" not in words.message + words.hint  # every fact that the words name is there
    return caught.value


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def renamed(prefix: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            weights[prefix + name] = weights.pop(name)

    return change


def test_a_bert_is_proven_in_every_way(bert_folder: Path) -> None:
    proof = proven(bert_folder)
    assert {way: proof.verdict(way).code for way in WAYS} == dict.fromkeys(WAYS, "")
    assert (proof.positions, proof.layers, proof.whole, proof.targets) == (32, 2, True, ("query", "value"))
    assert proof.vocabulary == proof.tokens == 15
    assert {name.rpartition(".")[0] for name in proof.new} == {"classifier"}
    assert proof.special["pad_token"] == "[PAD]" and proof.template == "none"


def test_a_decoder_is_proven_for_both_tasks(llama_folder: Path) -> None:
    for task in (CLASSIFICATION, CAUSAL):
        proof = proven(llama_folder, task)
        assert all(proof.verdict(way).proven for way in WAYS)
        assert proof.unused == (("lm_head.weight",) if task == CLASSIFICATION else ())


def test_a_roberta_reads_two_positions_fewer_than_it_says(tmp_path: Path) -> None:
    size = make_tokenizer(tmp_path)
    words = json.loads((tmp_path / "tokenizer.json").read_text())
    words["model"]["vocab"] |= {"[PAD]": 1, "[UNK]": 0}  # as RoBERTa has them
    words["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    RobertaModel(
        RobertaConfig(vocab_size=size, max_position_embeddings=34, pad_token_id=1, **SMALL)
    ).save_pretrained(tmp_path)
    proof = proven(tmp_path)
    assert proof.positions == 32
    assert all(proof.verdict(way).proven for way in WAYS)


def test_an_architecture_that_no_row_lists_is_offered_in_one_way(tmp_path: Path) -> None:
    size = make_tokenizer(tmp_path)
    ElectraModel(
        ElectraConfig(vocab_size=size, embedding_size=16, max_position_embeddings=32, **SMALL)
    ).save_pretrained(tmp_path)
    proof = proven(tmp_path)
    assert [way for way in WAYS if proof.verdict(way).proven] == ["all_in_tee/lora"]
    assert {proof.verdict(way).code for way in WAYS[1:]} == {"slicing.unknown_architecture"}


def test_a_way_that_an_architecture_cannot_take_is_refused_with_its_name(tmp_path: Path) -> None:
    size = make_tokenizer(tmp_path)
    DistilBertModel(
        DistilBertConfig(
            vocab_size=size, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=32
        )
    ).save_pretrained(tmp_path)
    proof = proven(tmp_path)
    assert proof.targets == ("q_lin", "v_lin") and proof.shape["hidden_dim"] == 32
    for way in WAYS:
        verdict = proof.verdict(way)
        assert verdict.code == ("adapter.no_prefix" if way.endswith("prefix") else "")
        assert verdict.proven or "DistilBERT" in explain(verdict.code, verdict.facts).message


def test_an_encoder_is_not_registered_to_write(bert_folder: Path) -> None:
    refusal = refused(bert_folder, CAUSAL)
    assert (refusal.code, refusal.facts["architecture"]) == ("model.reads_both_ways", "BERT")


@pytest.fixture
def deep_gpt2(tmp_path: Path) -> Path:
    """Six layers, the output layer tied to the table of tokens."""
    size = make_tokenizer(tmp_path / "deep")
    GPT2LMHeadModel(
        GPT2Config(vocab_size=size, n_embd=16, n_layer=6, n_head=2, n_positions=40)
    ).save_pretrained(tmp_path / "deep")
    return tmp_path / "deep"


def test_a_model_larger_than_memory_is_proven_by_every_tensor_and_a_layer_of_each_kind(
    deep_gpt2: Path,
) -> None:
    proof = proven(deep_gpt2, CAUSAL, whole=1000)
    assert (proof.whole, proof.layers, proof.shape["num_hidden_layers"]) == (False, 6, 6)
    assert proof.files == proven(deep_gpt2, CAUSAL).files
    assert all(proof.verdict(way).proven for way in WAYS)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (
            lambda w: w["transformer.h.5.mlp.c_fc.weight"].__setitem__((3, 4), float("nan")),
            "model.not_finite",
        ),
        (lambda w: w.pop("transformer.h.4.mlp.c_fc.weight"), "model.missing_tensors"),
        (lambda w: [w.pop(name) for name in list(w) if ".h.3." in name], "model.missing_tensors"),
        (lambda w: w.update({"transformer.h.2.mlp.c_fc.weight": torch.zeros(16, 60)}), "model.tensor_shape"),
        (lambda w: w.update({"transformer.h.1.extra": torch.zeros(2)}), "model.unexpected_tensors"),
        (lambda w: w.update({"transformer.h.6.ln_1.bias": torch.zeros(16)}), "model.unexpected_tensors"),
    ],
)
def test_a_fault_in_a_layer_that_is_not_built_is_found_all_the_same(
    deep_gpt2: Path, spoil: Callable[[Any], Any], code: str
) -> None:
    change_weights(deep_gpt2, spoil)
    with pytest.raises(Refusal) as caught:
        proven(deep_gpt2, CAUSAL, whole=1000)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (renamed("module."), "model.prefixed_tensors"),
        (renamed("encoder_model."), "model.prefixed_tensors"),
        (
            lambda w: w.update({"embeddings.word_embeddings.weight": torch.zeros(17, 16)}),
            "model.tensor_shape",
        ),
        (lambda w: [w.pop(name) for name in list(w) if "layer.1." in name], "model.missing_tensors"),
        (lambda w: w.pop("encoder.layer.1.output.dense.weight"), "model.missing_tensors"),
        (lambda w: w.pop("embeddings.position_embeddings.weight"), "model.missing_tensors"),
        (lambda w: w.update({"encoder.extra.weight": torch.zeros(2, 2)}), "model.unexpected_tensors"),
        (lambda w: w["encoder.layer.0.output.dense.bias"].fill_(float("inf")), "model.not_finite"),
        (lambda w: w["embeddings.word_embeddings.weight"][3, 1:2].fill_(float("nan")), "model.not_finite"),
        (
            lambda w: w.update({"pooler.dense.weight": torch.zeros(16, 16, dtype=torch.int8)}),
            "model.tensor_type",
        ),
    ],
)
def test_weights_that_would_be_random_or_are_no_numbers_are_refused_by_name(
    bert_folder: Path, spoil: Callable[[Any], Any], code: str
) -> None:
    change_weights(bert_folder, spoil)
    assert refused(bert_folder).code == code


def test_only_the_head_of_a_classifier_may_be_new(llama_folder: Path) -> None:
    """A classifier needs no output layer for words; but a checkpoint without its own is not whole."""
    change_config(llama_folder, tie_word_embeddings=True)
    change_weights(llama_folder, lambda w: w.pop("lm_head.weight", None))
    assert proven(llama_folder).new == ("score.weight",)
    change_config(llama_folder, tie_word_embeddings=False)
    for task in (CLASSIFICATION, CAUSAL):
        assert refused(llama_folder, task).facts["first"] == "lm_head.weight"


def test_heads_of_pretraining_are_left_out_and_said(bert_folder: Path) -> None:
    change_weights(bert_folder, lambda w: w.update({"cls.predictions.bias": torch.zeros(15)}))
    assert proven(bert_folder).unused == ("cls.predictions.bias",)


@pytest.mark.parametrize(
    ("spoil", "code", "named"),
    [
        (lambda f: os.truncate(f / "model.safetensors", 3000), "model.truncated", "model.safetensors"),
        (lambda f: os.truncate(f / "model.safetensors", 40), "model.truncated", "model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"<html>not found</html>"), "model.not_safetensors",
         "model.safetensors"),
        (lambda f: (f / "model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
         "model.lfs_pointer", "model.safetensors"),
        (lambda f: (f / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\n"),
         "model.lfs_pointer", "tokenizer.json"),
        (lambda f: (f / "config.json").write_bytes(b"\xef\xbb\xbf" + (f / "config.json").read_bytes()),
         "model.byte_order_mark", "config.json"),
        (lambda f: (f / "config.json").write_text((f / "config.json").read_text(), encoding="utf-16"),
         "model.byte_order_mark", "config.json"),
        (lambda f: (f / "tokenizer_config.json").write_text("{,"), "model.bad_json", "tokenizer_config.json"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "model.bad_json", "config.json"),
        (lambda f: change_config(f, model_type=None), "model.no_model_type", "config.json"),
        (lambda f: change_config(f, quantization_config={"bits": 4}), "model.quantised", "config.json"),
        (lambda f: (f / "config.json").unlink(), "model.file_missing", "config.json"),
        (lambda f: (f / "config.json").rename(f / "adapter_config.json"),
         "model.is_adapter", "adapter_config.json"),
        (lambda f: (f / "model.safetensors").rename(f / "bert-q4.gguf"), "model.is_gguf", "bert-q4.gguf"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_its_name_says_is_named(
    bert_folder: Path, spoil: Callable[[Path], Any], code: str, named: str
) -> None:
    spoil(bert_folder)
    refusal = refused(bert_folder)
    assert (refusal.code, refusal.facts["file"]) == (code, named)


def test_an_encoder_with_a_decoder_is_refused_for_what_it_is(bert_folder: Path) -> None:
    change_config(bert_folder, model_type="t5", is_encoder_decoder=True)
    assert (refused(bert_folder).code, refused(bert_folder).facts["kind"]) == ("model.encoder_decoder", "t5")


@pytest.mark.parametrize("shards", [{"a": 5}, {"a": "model-1-of-1.safetensors", "b": None}, {"a": {}}, ["a"]])
def test_an_index_that_names_no_files_is_refused(llama_folder: Path, shards: Any) -> None:
    (llama_folder / "model.safetensors").rename(llama_folder / "model-1-of-1.safetensors")
    (llama_folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert refused(llama_folder, CAUSAL).code == "model.no_weights"


def test_an_index_that_names_other_tensors_than_the_shards_hold_is_refused(llama_folder: Path) -> None:
    change_weights(llama_folder, lambda w: None)
    (llama_folder / "model.safetensors").rename(llama_folder / "model-1-of-1.safetensors")
    names = load_file(llama_folder / "model-1-of-1.safetensors")
    index = {"weight_map": dict.fromkeys([*names, "more"], "model-1-of-1.safetensors")}
    (llama_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert refused(llama_folder, CAUSAL).facts["tensor"] == "more"
    shutil.copy(llama_folder / "model-1-of-1.safetensors", llama_folder / "model-2.safetensors")
    index["weight_map"]["more"] = "model-2.safetensors"
    (llama_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert refused(llama_folder, CAUSAL).code == "model.tensor_twice"


def change_tokenizer(folder: Path, **changes: Any) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_tokenizer_that_is_missing_or_knows_more_than_the_model_is_refused(bert_folder: Path) -> None:
    reported = json.loads((bert_folder / "tokenizer.json").read_text())
    reported["model"]["vocab"]["appendix"] = 15
    (bert_folder / "tokenizer.json").write_text(json.dumps(reported))
    refusal = refused(bert_folder)
    assert (refusal.code, refusal.facts["token"], refusal.facts["rows"]) == (
        "model.tokenizer_beyond", "appendix", 15
    )  # fmt: skip
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bert_folder / name).unlink()
    assert refused(bert_folder).code == "model.no_tokenizer"


def test_a_tokenizer_without_padding_or_with_a_broken_template_is_refused(bert_folder: Path) -> None:
    change_tokenizer(bert_folder, chat_template="{% for m in messages %}{{ m.content }}{% endfor %}")
    assert proven(bert_folder).template == "fits"
    change_tokenizer(bert_folder, chat_template="{% for m in messages %}{{ loop.revindex }}{% endfor %}")
    assert proven(bert_folder).template == "unfit"
    change_tokenizer(bert_folder, chat_template="{% for m in messages %}")
    assert refused(bert_folder).code == "model.bad_template"
    change_tokenizer(bert_folder, chat_template=None, pad_token=None)
    assert refused(bert_folder).code == "model.no_padding"


def test_a_model_with_fewer_positions_than_it_claims_is_refused(bert_folder: Path) -> None:
    change_config(bert_folder, max_position_embeddings=64)
    assert refused(bert_folder).code == "model.tensor_shape"


def test_the_child_says_the_same_and_how_far_it_is(bert_folder: Path) -> None:
    reported: list[ChildProgress] = []
    proof = prove(bert_folder, CLASSIFICATION, limits=ChildLimits(4 << 30, 300), tell=reported.append)
    assert proof == proven(bert_folder)
    assert (reported[0].stage, reported[-1].stage) == ("files", "preparing")


def test_before_a_study_is_frozen_exactly_its_tuning_is_tried(bert_folder: Path) -> None:
    proof = proven(bert_folder)

    def check(**changes: Any) -> None:
        study: dict[str, Any] = {
            "folder": str(bert_folder), "task": CLASSIFICATION, "whole": WHOLE, "files": proof.files,
            "way": "masked/lora", "adapter": Lora(2, 4, ("query",)), "cut": 0, "tokens": 16, "labels": 3,
        }  # fmt: skip
        try_study(TryStudy(**{**study, **changes}), lambda _: None)

    check()
    check(way="split/spf", cut=1, adapter=Spf(50.0, 50.0))
    other = Lora(2, 4, ("c_attn",))
    for changes, code in (
        ({"tokens": 40}, "model.too_many_tokens"),
        ({"adapter": other}, "adapter.unknown_target"),
        ({"way": "split/spf", "cut": 3, "adapter": Spf(50.0, 50.0)},
         "split.bad_cut"),
        ({"files": {**proof.files, "config.json": "0" * 64}}, "model.file_changed"),
    ):  # fmt: skip
        with pytest.raises(Refusal) as caught:
            check(**changes)
        assert caught.value.code == code
