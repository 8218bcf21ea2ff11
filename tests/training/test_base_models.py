"""A base model is what its manifest pins, or it is refused."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from contracts.refusal import Refusal
from enclave.slicing import models
from enclave.slicing.models import load
from enclave_host.base_models import EMBEDDED, resolve
from enclave_host.pinning import pin
from error_catalogue import CATALOGUE
from tests.training.tiny import LABELS, causal_spec, classifier_spec


def refusal(code: str, act: object, *arguments: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        act(*arguments)  # type: ignore[operator]
    assert caught.value.code == code
    assert code in CATALOGUE
    return caught.value


def change_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_pin_names_exactly_configuration_weights_and_tokenizer(bert_folder: Path) -> None:
    (bert_folder / "README.md").write_text("not read")
    (bert_folder / "pytorch_model.bin").write_bytes(b"not read")
    assert set(pin(bert_folder)) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_a_pinned_classifier_is_built_with_the_manifests_labels(bert_folder: Path) -> None:
    model, tokenizer = load(bert_folder, classifier_spec(bert_folder))
    assert [model.config.id2label[index] for index in range(3)] == list(LABELS)
    assert not model.training
    assert tokenizer("fever cough")["input_ids"] == [4, 5]
    stored = load_file(bert_folder / "model.safetensors")
    loaded = dict(model.base_model.named_parameters())
    assert all(torch.equal(loaded[name], stored[name]) for name in loaded)


def test_weights_that_the_checkpoint_lacks_are_the_same_at_every_site(bert_folder: Path) -> None:
    spec, heads = classifier_spec(bert_folder), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        heads.append(load(bert_folder, spec)[0].classifier.weight)
    assert torch.equal(*heads)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
)
def test_one_changed_byte_in_any_pinned_file_is_refused(bert_folder: Path, name: str) -> None:
    spec = classifier_spec(bert_folder)
    data = bytearray((bert_folder / name).read_bytes())
    data[-2] ^= 1
    (bert_folder / name).write_bytes(data)
    assert refusal("model.file_changed", load, bert_folder, spec).facts == {"file": name}


def test_a_missing_file_is_refused(bert_folder: Path) -> None:
    spec = classifier_spec(bert_folder)
    (bert_folder / "tokenizer.json").unlink()
    assert refusal("model.file_missing", load, bert_folder, spec).facts == {"file": "tokenizer.json"}


def test_a_manifest_that_does_not_pin_the_weights_is_refused(bert_folder: Path) -> None:
    files = {name: sha for name, sha in pin(bert_folder).items() if name != "model.safetensors"}
    refusal("model.no_weights", load, bert_folder, classifier_spec(bert_folder, files=files))


def test_files_that_are_not_pinned_are_never_read(bert_folder: Path) -> None:
    spec = classifier_spec(bert_folder)
    (bert_folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "x"}')
    (bert_folder / "generation_config.json").write_text("{")
    (bert_folder / "model.safetensors.index.json").write_text("{")
    load(bert_folder, spec)


def test_what_is_loaded_is_the_copy_that_was_hashed(
    bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that swaps a file after the check changes nothing."""
    spec, build = classifier_spec(bert_folder), models._build
    expected = load(bert_folder, spec)[0].state_dict()

    def swap_then_build(folder: Path, given: object) -> object:
        weights = load_file(bert_folder / "model.safetensors")
        save_file({name: tensor + 1 for name, tensor in weights.items()}, bert_folder / "model.safetensors")
        return build(folder, given)  # type: ignore[arg-type]

    monkeypatch.setattr(models, "_build", swap_then_build)
    found = load(bert_folder, spec)[0].state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.pkl"])
def test_pickled_weights_are_refused(bert_folder: Path, name: str) -> None:
    (bert_folder / "model.safetensors").rename(bert_folder / name)
    refusal("model.pickle_weights", pin, bert_folder)


def test_a_manifest_that_pins_pickled_weights_is_refused(bert_folder: Path) -> None:
    spec = classifier_spec(bert_folder)
    refusal("model.pickle_weights", load, bert_folder, classifier_spec(
        bert_folder, files={**spec.files, "pytorch_model.bin": "0" * 64}))  # fmt: skip


@pytest.mark.parametrize("name", ["../config.json", "/etc/passwd", "modeling_own.py", "a/b.safetensors", "."])
def test_a_manifest_that_names_other_files_is_refused(bert_folder: Path, name: str) -> None:
    files = {name: "0" * 64}
    refusal("model.unsafe_name", load, bert_folder, classifier_spec(bert_folder, files=files))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_with_code_of_its_own_is_refused(bert_folder: Path, name: str) -> None:
    honest = classifier_spec(bert_folder)
    change_json(bert_folder / name, auto_map={"AutoConfig": "evil.Config"})
    refusal("model.remote_code", pin, bert_folder)
    changed = {**honest.files, name: hashlib.sha256((bert_folder / name).read_bytes()).hexdigest()}
    refusal("model.remote_code", load, bert_folder, classifier_spec_of(honest, changed))


def classifier_spec_of(spec: object, files: dict[str, str]) -> object:
    import msgspec

    return msgspec.structs.replace(spec, files=files)  # type: ignore[type-var]


def test_an_unknown_architecture_is_refused(bert_folder: Path) -> None:
    change_json(bert_folder / "config.json", model_type="own", architectures=["Own"])
    assert refusal("model.unreadable", load, bert_folder, classifier_spec(bert_folder)).facts["task"]


def test_a_truncated_checkpoint_is_refused_although_its_hash_is_pinned(bert_folder: Path) -> None:
    file = bert_folder / "model.safetensors"
    os.truncate(file, file.stat().st_size // 2)
    refusal("model.unreadable", load, bert_folder, classifier_spec(bert_folder))


def test_more_tokens_than_the_model_has_places_are_refused(bert_folder: Path) -> None:
    refusal("model.too_many_tokens", load, bert_folder, classifier_spec(bert_folder, max_tokens=33))


def test_sharded_weights_are_pinned_and_loaded(llama_folder: Path) -> None:
    whole, _ = load(llama_folder, causal_spec(llama_folder))
    whole.save_pretrained(llama_folder, max_shard_size="5KB")
    (llama_folder / "model.safetensors").unlink(missing_ok=True)
    spec = causal_spec(llama_folder)
    assert len([name for name in spec.files if name.endswith(".safetensors")]) > 1
    model, _ = load(llama_folder, spec)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole.parameters(), strict=True))
    fewer = dict(spec.files)
    fewer.pop(next(name for name in fewer if name.endswith(".safetensors")))
    refusal("model.unreadable", load, llama_folder, classifier_spec_of(spec, fewer))


def test_a_shard_index_cannot_lead_out_of_the_folder(llama_folder: Path) -> None:
    (llama_folder / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "../../secret.safetensors"}}
    (llama_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refusal("model.unsafe_name", pin, llama_folder)


def test_a_source_is_the_embedded_model_or_a_folder(bert_folder: Path) -> None:
    assert (resolve(EMBEDDED) / "model.safetensors").is_file()
    assert resolve(str(bert_folder)) == bert_folder.resolve()


@pytest.mark.parametrize("source", ["/no/such/folder", "../up", "a/b/c", "x y"])
def test_what_is_neither_folder_nor_hub_id_is_refused_without_a_network(source: str) -> None:
    refusal("model.not_found", resolve, source)
