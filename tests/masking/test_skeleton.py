"""Models from pinned files, one tensor at a time: the same model as the whole one, without the whole one's
memory."""

import json
import random

import numpy as np
import pytest
import torch

from benchmarks import small_models
from contracts.architecture.rows import row_of
from contracts.manifest import Lora, ModelSpec, Prefix, Training
from contracts.refusal import Refusal
from contracts.rows import TextLabel
from enclave.slicing import models
from enclave.slicing.adapters import adapt, load_tuned_state, tuned_state
from enclave.slicing.checkpoint import ModelCheckpoint
from enclave.slicing.embeddings import FileVectors
from enclave.slicing.placement import Shape, offload
from enclave.training.loop import derive_seed, train
from enclave.training.row_reader import encode
from enclave_host import base_models
from enclave_host.pinning import pin
from enclave_host.unmasked import UnmaskedEngine, prepare_and_open
from tests.masking.tiny import ARCHITECTURES, LocalAccelerator, model, sorts

LABELS = ("no", "yes", "maybe")
LORA = Lora(4, 8, ("query", "value"))


@pytest.fixture(scope="module")
def minilm():
    folder = base_models.resolve(base_models.EMBEDDED)
    return folder, ModelSpec(
        base_models.EMBEDDED, "sequence-classification", pin(folder), LABELS, max_tokens=64
    )


@pytest.fixture(scope="module")
def opened(minilm, tmp_path_factory):
    folder, spec = minilm
    return prepare_and_open(folder, spec, LORA, 5, tmp_path_factory.mktemp("opened") / "store")


def rows(count=12):
    generator = random.Random(4)
    words = ("fever", "cough", "dose", "daily", "pain", "left", "knee", "scan", "shows", "nothing")
    return [
        TextLabel(
            " ".join(generator.choices(words, k=generator.randint(2, 14))), generator.choice(LABELS), "train"
        )
        for _ in range(count)
    ]


def test_the_cut_minilm_is_the_loaded_one_but_for_int8_weights(minilm, opened):
    base, tokenizer = models.load(*minilm)
    whole = adapt(base, LORA, 5)
    start, other = tuned_state(whole), tuned_state(opened.cut.model)
    assert start.keys() == other.keys() and all(np.array_equal(start[key], other[key]) for key in start)
    assert tokenizer("a fever")["input_ids"] == opened.tokenizer("a fever")["input_ids"]
    opened.cut.attach(UnmaskedEngine(opened.cut.store))
    batch = tokenizer(["a fever in the left knee", "nothing"], return_tensors="pt", padding=True)
    feed = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        hidden = [tuned.bert(**feed).last_hidden_state for tuned in (whole, opened.cut.model)]
    similar = torch.nn.functional.cosine_similarity(*[h[feed["attention_mask"].bool()] for h in hidden])
    assert similar.min() > 0.995


@pytest.mark.long
@pytest.mark.parametrize("adapter", [LORA, Prefix(6)], ids=["lora", "prefix"])
def test_masked_training_of_minilm_is_bit_for_bit_the_unmasked_one(adapter, minilm, opened, tmp_path):
    """The product's own loop, tokenizer, bucketing and padding."""
    if adapter != LORA:
        opened = prepare_and_open(*minilm, adapter, 5, tmp_path / "store")
    examples = encode(rows(), opened.tokenizer, minilm[1])
    training = Training(rounds=1, local_epochs=2, batch_size=4, learning_rate=1e-3, seed=3)
    initial = tuned_state(opened.cut.model)
    results = []
    for masked in (False, True):
        load_tuned_state(opened.cut.model, initial)
        if masked:
            placed = offload(opened.cut, LocalAccelerator(opened.cut.store.folder, 512), tmp_path / "vault")
            shuffle = random.Random(derive_seed(3, 1, "anna"))
            shapes = [
                Shape(*batch.input_ids.shape, backward=True)
                for _ in range(2)
                for batch in examples.training_batches(4, shuffle)
            ]
            heard = []
            assert placed.begin_round(1, shapes, heard.append) == 6
            assert 0 < heard[0].bytes < 200 << 20
        else:
            opened.cut.attach(UnmaskedEngine(opened.cut.store))
        result = train(opened.cut.model, examples, training, round=1, site="anna")
        results.append((result.loss, tuned_state(opened.cut.model)))
    assert results[0][0] == results[1][0]
    assert all(np.array_equal(results[0][1][key], results[1][1][key]) for key in initial)
    measures = placed.measures()
    assert measures["pads_inline"] == 0 and measures["pads_left"] == 0 and measures["checks"] > 200


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_family_opens_from_its_files(name, tmp_path):
    """Tied heads, fused and grouped projections, scaled embeddings: the opened model computes what the saved
    one does, but for int8 weights."""
    whole = model(name)
    folder = tmp_path / "model"
    whole.save_pretrained(folder)
    folder_of_words = base_models.resolve(base_models.EMBEDDED)
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (folder_of_words / file).is_file():
            (folder / file).write_bytes((folder_of_words / file).read_bytes())
    task, labels = ("sequence-classification", LABELS) if sorts(name) else ("causal-lm", ())
    spec = ModelSpec("local", task, pin(folder), labels, max_tokens=32)
    done = prepare_and_open(folder, spec, small_models.lora(name), 1, tmp_path / "store").cut
    done.attach(UnmaskedEngine(done.store))
    ids = torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        backbones = [getattr(m, row_of(whole.config).backbone) for m in (whole, done.model)]
        expected, found = (backbone(input_ids=ids).last_hidden_state for backbone in backbones)
        similar = [torch.nn.functional.cosine_similarity(found, expected, dim=-1).min()]
        if not sorts(name):
            answers = [m(input_ids=ids).logits for m in (whole, done.model)]
            similar.append(torch.nn.functional.cosine_similarity(*answers, dim=-1).min())
    assert min(similar) > 0.98
    if name in ("gpt2", "qwen2", "qwen3", "gemma2"):
        assert whole.config.tie_word_embeddings


def refused(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value.code


def test_files_that_changed_are_refused(minilm, tmp_path):
    folder, spec = minilm
    for name in spec.files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    weights = tmp_path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    assert refused(prepare_and_open, tmp_path, spec, LORA, 1, tmp_path / "store") == "model.file_changed"
    data[-5] ^= 1
    weights.write_bytes(data)
    checkpoint = ModelCheckpoint({weights: spec.files["model.safetensors"]})
    name, place = max(checkpoint.places.items(), key=lambda pair: pair[1].offset)
    data[place.offset] ^= 1  # after the survey: the host swaps a tensor between the passes
    weights.write_bytes(data)
    assert refused(checkpoint.read, name) == "slicing.tensor_changed"
    table = next(p for name, p in checkpoint.places.items() if "word_embeddings" in name)  # not by rows
    vectors = FileVectors(table.file, table.offset, table.shape, table.dtype, table.hashes)
    assert refused(vectors.gather, torch.tensor([1])) == "slicing.embedding_changed"
    (tmp_path / "config.json").write_text("{}")
    assert refused(prepare_and_open, tmp_path, spec, LORA, 1, tmp_path / "store") == "model.file_changed"


def test_an_architecture_outside_the_table_is_refused_by_name(minilm, tmp_path):
    folder, spec = minilm
    for name in spec.files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_bytes()) | {"model_type": "electra"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    changed = ModelSpec(spec.source, spec.task, pin(tmp_path), LABELS, 64)
    assert (
        refused(prepare_and_open, tmp_path, changed, LORA, 1, tmp_path / "store")
        == "slicing.unknown_architecture"
    )


def test_a_prefix_that_leaves_too_little_room_is_refused(minilm, tmp_path):
    folder, spec = minilm
    assert refused(prepare_and_open, folder, spec, Prefix(500), 1, tmp_path) == "slicing.too_short"
