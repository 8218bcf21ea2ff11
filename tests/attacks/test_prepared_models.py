"""A prepared model is the host's file: other files are refused, and where a coordinator pins what no
preparing writes, an index can at most make its own slice compute with other weights."""

import hashlib
import math
import random
import shutil
import struct

import msgspec
import pytest
import torch

from contracts.manifest import Lora, Masking, ModelSpec, Prefix
from contracts.refusal import Refusal
from enclave.masking.fixed_point import MAX_INNER, MAX_NORM
from enclave.slicing.cut import open_cut
from enclave.slicing.hollow import HollowBase
from enclave.slicing.placement import offload
from enclave.slicing.prepared import open_prepared
from enclave_host.pinning import pin
from enclave_host.preparing.preparation import prepare
from enclave_host.unmasked import UnmaskedEngine
from tests.masking.tiny import LocalAccelerator
from tests.programs.conftest import LABELS, make_model

LORA = Lora(2, 4, ("query", "value"))
QUERY = "bert.encoder.layer.1.attention.self.query"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "model"
    make_model(folder)
    return HollowBase(folder, ModelSpec("tiny", "sequence-classification", pin(folder), LABELS, 16))


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "made"
    prepare(model.folder, model.spec.files, model.spec.task, folder)
    return folder


def index_of(folder):
    return msgspec.json.decode((folder / "index.json").read_bytes())


def pinned(folder, index):
    """What a coordinator would pin of it."""
    data = msgspec.json.encode(index)
    (folder / "index.json").write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def opened(model, folder, index_hash, adapter=LORA, first=0):
    return open_cut(model, open_prepared(folder, index_hash), adapter, 1, first)


def refused(call, *arguments, **named):
    with pytest.raises(Refusal) as caught:
        call(*arguments, **named)
    return caught.value


def layer_named(index, part):
    return next(layer for layer in index["layers"] if part in layer["name"])


def place_of(index, name):
    """Where a value lies in inside.bin, and how many numbers it has."""
    at = 0
    for found, shape in index["values"].items():
        if found == name:
            return at, math.prod(shape)
        at += 4 * math.prod(shape)
    raise KeyError(name)


def scales(change):
    """An index whose first layer has other scales, as if they were pinned."""

    def changed(index, folder):
        data = bytearray((folder / "inside.bin").read_bytes())
        at, _ = place_of(index, index["layers"][0]["name"])
        data[at : at + 4] = struct.pack("<f", change)
        (folder / "inside.bin").write_bytes(data)
        index["inside"] = hashlib.sha256(data).hexdigest()

    return changed


def of_layer(part, **changes):
    return lambda index, _folder: layer_named(index, part).update(changes)


def of_parts(direction, **changes):
    return lambda index, _folder: index["layers"][0][direction].update(changes)


def without_layer(index, folder):
    """The weights behind it move up, so that every hash is right."""
    at, left_out = 0, layer_named(index, "layer.1.output.dense")
    for layer in index["layers"]:
        if layer is left_out:
            break
        at += layer["outputs"] * layer["inputs"]
    data = (folder / "weights.int8").read_bytes()
    (folder / "weights.int8").write_bytes(data[:at] + data[at + left_out["outputs"] * left_out["inputs"] :])
    index["layers"].remove(left_out)


def renamed(old, new):
    def changed(index, _folder):
        layer = layer_named(index, old)
        name = layer["name"]
        layer["name"] = name.replace(old, new)
        index["values"] = {layer["name"] if key == name else key: v for key, v in index["values"].items()}

    return changed


def twice(part, name):
    """A layer once more, under another name and with the same weights."""

    def changed(index, folder):
        layer, at = layer_named(index, part), 0
        for one in index["layers"]:
            if one is layer:
                break
            at += one["outputs"] * one["inputs"]
        data = (folder / "weights.int8").read_bytes()
        (folder / "weights.int8").write_bytes(data + data[at : at + layer["outputs"] * layer["inputs"]])
        index["layers"].append({**layer, "name": name})
        index["values"][name] = [layer["outputs"]]
        inside = bytearray((folder / "inside.bin").read_bytes())
        end, (start, count) = (
            4 * sum(map(math.prod, index["values"].values())),
            place_of(index, layer["name"]),
        )
        end -= 4 * count
        inside[end:end] = inside[start : start + 4 * count]
        (folder / "inside.bin").write_bytes(inside)
        index["inside"] = hashlib.sha256(inside).hexdigest()

    return changed


def other_shape(name, shape):
    return lambda index, _folder: index["values"].update({name: shape})


BAD: dict[str, tuple] = {
    "scale of nan": (scales(math.nan), "masking.bad_prepared"),
    "infinite scale": (scales(math.inf), "masking.bad_prepared"),
    "scale of zero": (scales(0.0), "masking.bad_prepared"),
    "negative scale": (scales(-1.0), "masking.bad_prepared"),
    "two bytes of a residue": (of_parts("forward", limbs=2), "masking.bad_prepared"),
    "five bytes of a residue": (of_parts("backward", limbs=5), "masking.bad_prepared"),
    "no sum of squares": (of_parts("forward", most=[0]), "masking.bad_prepared"),
    "a sum below what rounding needs": (of_parts("forward", most=[100]), "masking.bad_prepared"),
    "a sum that float32 does not hold": (of_parts("forward", most=[MAX_NORM**2 + 1]), "masking.bad_prepared"),
    "a part too few": (of_parts("forward", step=16), "masking.bad_prepared"),
    "a part too many": (of_parts("forward", most=[1 << 30, 1 << 30]), "masking.bad_prepared"),
    "a part that is too wide": (of_parts("forward", step=MAX_INNER + 1), "masking.bad_prepared"),
    "no parts": (of_parts("forward", most=[]), "masking.bad_prepared"),
    "other outputs": (of_layer("layer.1.output.dense", outputs=33), "masking.bad_prepared"),
    "inputs and outputs that have changed places": (
        of_layer("layer.1.output.dense", outputs=64, inputs=32), "masking.bad_prepared",
    ),
    "a layer that is left out": (without_layer, "slicing.frozen_inside"),
    "a layer of no module": (
        renamed("layer.1.output.dense", "layer.9.output.dense"), "slicing.frozen_inside",
    ),
    "one input for what has two": (
        renamed("layer.1.attention.self.value", "layer.0.attention.self.value"), "masking.bad_prepared",
    ),
    "names that the table does not put together": (
        renamed("self.query", "output.dense"), "masking.bad_prepared",
    ),
    "a norm in the place of a linear": (
        renamed("layer.1.output.dense", "layer.1.output.LayerNorm"), "masking.bad_prepared",
    ),
    "a module in the place of a linear": (renamed("layer.1.output.dense", "layer.1"), "masking.bad_prepared"),
    "the head that is tuned": (
        twice("layer.1.attention.output.dense", "bert.pooler.dense"), "slicing.trained_outside",
    ),
    "a value of another shape": (
        other_shape("bert.embeddings.position_embeddings.weight", [1, 32]), "slicing.missing_tensor",
    ),
    "a value that is not there": (
        lambda index, _: index["values"].pop("bert.embeddings.LayerNorm.bias"), "slicing.missing_tensor",
    ),
    "more values than the file has": (other_shape("more", [1 << 20]), "masking.bad_prepared"),
    "a value without numbers": (other_shape("more", [0]), "masking.bad_prepared"),
    "scales that are not there": (
        lambda index, _: index["values"].pop(index["layers"][0]["name"]), "masking.bad_prepared",
    ),
    "numbers of no type": (lambda index, _: index.update(table="int8"), "masking.bad_prepared"),
    "a field more": (lambda index, _: index.update(more=1), "masking.bad_prepared"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_an_index_that_no_preparing_writes_is_refused_though_it_is_pinned(name, model, made, tmp_path):
    change, code = BAD[name]
    folder = tmp_path / "prepared"
    shutil.copytree(made, folder)
    index = index_of(folder)
    change(index, folder)
    assert refused(opened, model, folder, pinned(folder, index)).code == code


def test_a_layer_that_is_named_twice_is_multiplied_once(model, made, tmp_path):
    """The second finds its module taken; what it names lies elsewhere, and nobody reads it."""
    folder = tmp_path / "prepared"
    shutil.copytree(made, folder)
    index = index_of(folder)
    index["layers"].append(dict(layer_named(index, "layer.1.output.dense")))
    cut = opened(model, folder, pinned(folder, index))
    numbers = [product.number for layer in cut.store.layers.values() for product in layer.products]
    assert len(numbers) == len(set(numbers))
    assert len([group for group in cut.groups if "layer.1.output.dense" in group.layer.name]) == 1


@pytest.mark.parametrize("name", ["index.json", "inside.bin"])
def test_other_files_than_the_pinned_ones_are_refused(name, model, made, tmp_path):
    index_hash = hashlib.sha256((made / "index.json").read_bytes()).hexdigest()
    folder = tmp_path / "prepared"
    shutil.copytree(made, folder)
    data = bytearray((folder / name).read_bytes())
    data[random.Random(1).randrange(len(data))] ^= 1
    (folder / name).write_bytes(data)
    refusal = refused(opened, model, folder, index_hash)
    assert (refusal.code, refusal.facts["file"]) == ("masking.prepared_differs", name)
    (folder / name).unlink()
    assert refused(opened, model, folder, index_hash).code == "masking.bad_prepared"


def test_another_embedding_is_refused_when_it_is_asked_for(model, made, tmp_path):
    """The table is large and stays outside: each row has its hash."""
    folder = tmp_path / "prepared"
    shutil.copytree(made, folder)
    cut = opened(model, folder, hashlib.sha256((made / "index.json").read_bytes()).hexdigest())
    cut.attach(UnmaskedEngine(cut.store))
    row = 32 * 4
    with (folder / "table.bin").open("r+b") as file:
        file.seek(7 * row)
        file.write(bytes(row))
    ids = torch.tensor([[2, 7]])
    said = refused(cut.model, input_ids=ids, attention_mask=torch.ones_like(ids))
    assert said.code == "slicing.embedding_changed"
    (folder / "table.bin").write_bytes(b"")
    said = refused(cut.model, input_ids=ids[:, :1], attention_mask=torch.ones(1, 1).long())
    assert said.code == "slicing.embedding_changed"


@pytest.mark.parametrize("wrong", [1 << 40, 1 << 24])
def test_a_wrong_bound_opens_no_mask(wrong, model, made, tmp_path):
    """A product that leaves its ring is a wrong product, and ends the slice; what has gone out was masked."""
    folder = tmp_path / "prepared"
    shutil.copytree(made, folder)
    index = index_of(folder)
    for layer in index["layers"]:
        layer["forward"]["most"] = [wrong]
        layer["forward"]["limbs"] = 3
    cut = opened(model, folder, pinned(folder, index), Prefix(2))
    offload(cut, accelerator := LocalAccelerator(folder), tmp_path / "vault").begin_round(1)
    ids = torch.tensor([[2, 5, 9, 3]])
    with torch.no_grad():
        if wrong == 1 << 40:
            said = refused(cut.model, input_ids=ids, attention_mask=torch.ones_like(ids))
            assert said.code == "masking.wrong_product"
        else:
            cut.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    sent = [words for _, words in accelerator.seen]
    assert sent and len(set(map(bytes, (words.low.tobytes() for words in sent)))) == len(sent)


def test_a_masked_study_that_names_no_prepared_model_is_refused(house, consortium_class, tmp_path, code_of):
    manifest = house.manifest(placement="masked", masking=Masking(vault_bytes=1 << 24))
    pinned_none = msgspec.structs.replace(
        manifest, masking=msgspec.structs.replace(manifest.masking, prepared=msgspec.UNSET)
    )
    run = consortium_class(house, tmp_path / "run", pinned_none)
    try:
        client = run.client("anna", run.aggregator(), load=False)
        asked = {"model": str(house.model), **run.rows_of("anna")}
        assert code_of(client.call, "load", **asked) == "masking.prepared_differs"
    finally:
        run.close()
