"""What may be cut, and what is refused."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, ElectraConfig

from contracts.architecture.rows import row_of
from contracts.architecture.table import ARCHITECTURES as TABLE
from contracts.manifest import Lora, Prefix
from contracts.refusal import Refusal
from enclave.slicing.cut import inspect_cut
from enclave.slicing.outsourced import OutsourcedLinear
from enclave.slicing.prefix import usable_tokens
from enclave_host.unmasked import UnmaskedEngine, WrittenStore, cut_in_memory
from tests.masking.tiny import ARCHITECTURES, VOCABULARY, WAYS, adapter, cut_model, model, sorts
from tests.support.families import tried


def refused(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value


@pytest.mark.parametrize(("name", "kind"), WAYS)
def test_no_frozen_matrix_stays_inside(name, kind, tmp_path):
    whole = sum(p.numel() for p in model(name).parameters())
    cut = cut_model(name, kind, tmp_path)
    stored = sum(
        p.untyped_storage().nbytes() // 4
        for p in cut.model.parameters()
        if not p.requires_grad and p.dim() > 1
    )
    outside = (cut.store.folder / "weights.int8").stat().st_size
    linears = [module for module in cut.model.modules() if isinstance(module, OutsourcedLinear)]
    assert outside == sum(linear.weight.numel() for linear in linears) > whole / 2
    assert stored < whole / 4  # small tables


def test_an_unknown_architecture_is_refused_by_name(tmp_path):
    other = AutoModelForSequenceClassification.from_config(
        ElectraConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=20)
    )
    refusal = refused(cut_in_memory, other, Lora(2, 2, ("query",)), 1, WrittenStore(tmp_path))
    assert refusal.code == "slicing.unknown_architecture"
    assert refusal.facts["found"] == "electra"
    assert refusal.facts["supported"] == ", ".join(row.name for row in TABLE.values())
    assert "GLM-4" in refusal.facts["supported"]


class Spy(nn.Linear):
    """A linear that would do more than multiply."""


@pytest.mark.parametrize("name", tried(ARCHITECTURES))
def test_a_module_that_nobody_listed_is_refused_wherever_it_sits(name, tmp_path):
    for number, module in enumerate((Spy(24, 24), nn.Conv1d(3, 3, 1), nn.Sequential())):
        changed = model(name)
        parent = getattr(changed, row_of(changed.config).backbone)
        next(m for m in parent.modules() if isinstance(m, nn.ModuleList))[1].extra = module
        store = WrittenStore(tmp_path / str(number))
        refusal = refused(cut_in_memory, changed, adapter(name, "lora"), 1, store)
        assert refusal.code == "slicing.unlisted_module" and "extra" in refusal.facts["module"]


def test_what_is_put_in_after_the_cut_is_found_by_inspection(tmp_path):
    done = cut_model("llama", "lora", tmp_path)
    architecture = row_of(done.model.config)
    inspect_cut(done.model, architecture)
    done.model.model.layers[0].mlp.down_proj = nn.Linear(40, 24).requires_grad_(False)
    assert refused(inspect_cut, done.model, architecture).code == "slicing.frozen_inside"
    done.model.model.layers[0].mlp.down_proj = Spy(40, 24)
    assert refused(inspect_cut, done.model, architecture).code == "slicing.unlisted_module"


def test_a_tuned_tensor_outside_is_refused(tmp_path):
    done = cut_model("gpt2", "lora", tmp_path)
    architecture = row_of(done.model.config)
    next(m for m in done.model.modules() if isinstance(m, OutsourcedLinear)).weight.requires_grad_(True)
    assert refused(inspect_cut, done.model, architecture).code == "slicing.trained_outside"


@pytest.mark.parametrize(("name", "kind"), WAYS)
def test_padding_and_neighbours_change_nothing(name, kind, tmp_path):
    """A row alone and the same row padded beside others; with a prefix too, whose cache is fresh each
    time."""
    done = cut_model(name, kind, tmp_path)
    done.attach(UnmaskedEngine(done.store))
    ids = torch.randint(3, VOCABULARY, (3, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    with torch.no_grad():
        among = done.model(input_ids=ids, attention_mask=mask).logits[0]
        alone = done.model(input_ids=ids[:1, :4], attention_mask=mask[:1, :4]).logits[0]
        again = done.model(input_ids=ids[:1, :4], attention_mask=mask[:1, :4]).logits[0]
    among = among if sorts(name) else among[:4]
    assert torch.allclose(among, alone, atol=1e-4) and torch.equal(alone, again)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if not TABLE[name].prefix])
def test_a_model_that_takes_no_keys_from_before_refuses_a_prefix_by_name(name, tmp_path):
    refusal = refused(cut_model, name, "prefix", tmp_path)
    assert (refusal.code, refusal.facts["architecture"]) == ("adapter.no_prefix", TABLE[name].name)
    assert refused(usable_tokens, model(name), Prefix(2), 8).code == "adapter.no_prefix"


def test_a_prefix_must_leave_room_for_the_text():
    whole = model("bert")
    assert usable_tokens(whole, Prefix(14), 50) == 50
    refusal = refused(usable_tokens, whole, Prefix(15), 50)
    assert (refusal.code, refusal.facts["usable"]) == ("slicing.too_short", 49)


def test_changed_weights_of_the_host_are_refused(tmp_path):
    done = cut_model("gpt2", "lora", tmp_path)
    file = done.store.folder / "weights.int8"
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(data)
    assert refused(UnmaskedEngine, done.store).code == "masking.weights_changed"
