"""Tuning that starts from a released adapter: the pinned bytes and no others, in every placement, and the
same model whichever half of it is where."""

from __future__ import annotations

import hashlib
import json
import shutil

import msgspec
import numpy as np
import pytest
import safetensors.numpy
import torch

from contracts.architecture.layers import linears_of
from contracts.manifest import Aggregation, Lora, Masking, PublicFront, Spf, Split
from contracts.sealed.package import ADAPTER
from enclave.programs.learner import load_learner
from enclave.programs.mailbox import PREPARED
from enclave.programs.tail import load_tail
from enclave.slicing.halves import open_front
from enclave.slicing.released import adapter_files
from tests.programs.conftest import DATASET_KEY
from tests.programs.split_house import split_manifest

SITE = "anna"
ROLES = ("attention_output", "dense")


def learner_of(house, manifest, folder):
    return load_learner(manifest, SITE, house.model, house.rows[SITE], DATASET_KEY, folder)


def released(house, manifest, folder):
    """What a run by this manifest could release: each tuned number moved a little."""
    learner = learner_of(house, manifest, folder)
    draw = np.random.default_rng(3)
    state = {
        name: (tensor + draw.normal(0, 0.05, tensor.shape)).astype(np.float32)
        for name, tensor in learner.initial.items()
    }
    config = json.loads((house.model / "config.json").read_text())
    return state, adapter_files(manifest, state, config)[ADAPTER]


def starting(manifest, folder, data, pin=None):
    """The manifest that starts from these bytes, which lie in the mailbox's folder."""
    name = pin or hashlib.sha256(data).hexdigest()
    (folder / "in").mkdir(parents=True, exist_ok=True)
    (folder / "out").mkdir(exist_ok=True)
    (folder / "in" / name).write_bytes(data)
    spec = msgspec.structs.replace(manifest.model, start=name, start_receipt="ab" * 32)
    return msgspec.structs.replace(manifest, model=spec)


@pytest.fixture(scope="module")
def plain(house, tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    (folder / "out").mkdir()
    manifest = house.manifest()
    return manifest, *released(house, manifest, folder)


@pytest.mark.parametrize("masking", [None, Masking()], ids=["all_in_tee", "masked"])
def test_the_first_round_scores_and_trains_what_was_released(house, plain, tmp_path, masking):
    manifest, state, data = plain
    placement = {} if masking is None else {"placement": "masked", "masking": masking}
    begun = starting(house.manifest(**placement), tmp_path, data)
    if masking is not None:
        shutil.copytree(house.prepared(begun.model.task)[1], tmp_path / PREPARED)
    learner = learner_of(house, begun, tmp_path)
    assert learner.initial.keys() == state.keys()
    assert all(np.array_equal(learner.initial[name], state[name]) for name in state)
    learner.start_from(None)
    if masking is not None:
        return  # it computes with an accelerator alone
    before = learner_of(house, manifest, tmp_path)
    before.start_from(state)
    silent = [one.evaluate("update", lambda _news: None) for one in (learner, before)]
    assert silent[0] == silent[1]


def test_one_factor_stands_still_as_it_was_released(house, plain, tmp_path):
    _manifest, state, data = plain
    rules = Aggregation("ffa-lora", quorum=2, deadline_seconds=60)
    learner = learner_of(house, starting(house.manifest(aggregation=rules), tmp_path, data), tmp_path)
    assert not any(".lora_A." in name for name in learner.initial)
    kept = {name: value for name, value in learner.model.state_dict().items() if ".lora_A." in name}
    assert kept
    assert all(
        np.array_equal(value.numpy(), state["base_model.model." + name]) for name, value in kept.items()
    )


def test_a_tail_with_lora_and_its_front_are_the_released_model(house, tmp_path):
    """The adapter comes from Method 1 behind a public front; rows that are tuned too begin at the base's."""
    front = house.manifest(front=PublicFront(1), adapter=Lora(4, 8, _paths(house)))
    (tmp_path / "out").mkdir()
    state, data = released_behind_a_front(house, front)
    spf = Spf(attention=50, dense=50, lora=ROLES, rank=4, alpha=8)
    manifest = starting(split_manifest(house, adapter=spf, split=Split(1)), tmp_path, data)
    learner = load_tail(manifest, house.model, tmp_path)
    whole = learner_of(house, house.manifest(adapter=Lora(4, 8, _paths(house))), tmp_path)
    below = {name: tensor for name, tensor in whole.initial.items() if name not in state}
    whole.start_from(below | state)  # its B is zero below the cut
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        features = open_front(house.model, manifest.model, 1)[0](ids, mask)
        found = learner.tail(features, mask).logits
        expected = whole.model.eval()(input_ids=ids, attention_mask=mask).logits
    assert torch.allclose(found, expected, atol=1e-5)
    drawn = load_tail(split_manifest(house, adapter=spf, split=Split(1)), house.model)
    with torch.no_grad():
        assert not torch.allclose(drawn.tail(features, mask).logits, expected, atol=1e-3)


def _paths(house):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(house.model)
    return tuple(one.path for one in linears_of(config) if one.role in ROLES)


def released_behind_a_front(house, manifest):
    whole = learner_of(house, msgspec.structs.replace(manifest, front=None), None)
    draw = np.random.default_rng(3)
    state = {
        name: (tensor + draw.normal(0, 0.05, tensor.shape)).astype(np.float32)
        for name, tensor in whole.initial.items()
        if ".layer.0." not in name
    }
    config = json.loads((house.model / "config.json").read_text())
    return state, adapter_files(manifest, state, config)[ADAPTER]


def test_other_bytes_than_those_that_were_signed_are_refused(house, plain, tmp_path, code_of):
    manifest, _state, data = plain
    swapped = starting(manifest, tmp_path, data + b" ", pin=hashlib.sha256(data).hexdigest())
    assert code_of(learner_of, house, swapped, tmp_path) == "start.changed"
    for file in (tmp_path / "in").iterdir():
        file.unlink()
    assert code_of(learner_of, house, swapped, tmp_path) == "start.missing"
    assert code_of(learner_of, house, swapped, None) == "start.missing"


def test_a_file_that_is_pinned_must_fit_all_the_same(house, plain, tmp_path, code_of):
    manifest, state, _data = plain
    name = next(name for name in state if ".lora_B." in name)
    for change, code in (
        ({name: np.zeros((3, 4), np.float32)}, "start.other_parameters"),
        ({"base_model.model.other": np.zeros(3, np.float32)}, "start.other_parameters"),
        ({name: state[name].astype(np.float64)}, "start.other_parameters"),
        ({name: np.full_like(state[name], np.nan)}, "start.unreadable"),
    ):
        strange = starting(manifest, tmp_path, safetensors.numpy.save(state | change))
        assert code_of(learner_of, house, strange, tmp_path) == code
    fewer = {key: value for key, value in state.items() if key != name}
    strange = starting(manifest, tmp_path, safetensors.numpy.save(fewer))
    assert code_of(learner_of, house, strange, tmp_path) == "start.other_parameters"
    whole = safetensors.numpy.save(state)
    for damaged in (b"PK", b"", whole[:-4], whole.replace(b'"data_offsets":[0,', b'"data_offsets":[4,')):
        strange = starting(manifest, tmp_path, damaged)
        assert code_of(learner_of, house, strange, tmp_path) == "start.unreadable"
