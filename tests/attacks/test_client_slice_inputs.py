"""A site's host turns what its client slice reads into questions about the tuned parameters.

Each of these was answered before the slice checked what it reads against the manifest.
"""

import shutil

import pytest
import safetensors.torch

from contracts.manifest import Masking
from tests.programs.conftest import Consortium, House, code_of, house, refusal_of

__all__ = ["code_of", "house", "refusal_of"]


@pytest.fixture(scope="module")
def masked(house: House, tmp_path_factory):
    """A loaded client slice of a masked run, whose model folder its host may write to at any time."""
    folder = tmp_path_factory.mktemp("inputs")
    manifest = house.manifest(placement="masked", masking=Masking(vault_bytes=1 << 24))
    made = Consortium(house, folder / "run", manifest)
    made.model = folder / "model"
    shutil.copytree(house.model, made.model)
    try:
        made.anna = made.client("anna", made.aggregator(), load=False)
        made.anna.call("load", model=str(made.model), **made.rows_of("anna"))
        made.accelerate("anna", made.anna)
        yield made
    finally:
        made.close()


def write_table(folder, change):
    """Overwrite the token embeddings in place, as a host that watches the slice's reads can."""
    file = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    name = next(name for name in tensors if name.endswith("word_embeddings.weight"))
    before = file.read_bytes()
    content = tensors[name].numpy().tobytes()
    start = before.index(content)
    with file.open("r+b") as opened:
        opened.seek(start)
        opened.write(change(tensors[name]).numpy().tobytes())
    return lambda: file.write_bytes(before)


def test_vectors_that_the_host_has_chosen_are_refused(masked, code_of):
    undo = write_table(masked.model, lambda table: table * 0 + 1)
    assert code_of(masked.anna.call, "train", round=1, previous=None) == "slicing.embedding_changed"
    undo()


def test_genuine_vectors_in_another_order_are_refused(masked, code_of):
    """Every row is one of the pinned table's: only its number gives it away."""
    undo = write_table(masked.model, lambda table: table.flip(0).contiguous())
    assert code_of(masked.anna.call, "train", round=1, previous=None) == "slicing.embedding_changed"
    undo()
    assert masked.anna.call("train", round=1, previous=None)["samples"] == 12
