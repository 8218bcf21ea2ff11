"""What three limbs save and what they cost, on the real MiniLM."""

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy

from contracts.manifest import Lora, ModelSpec
from enclave.slicing import models
from enclave.slicing.adapters import adapt
from enclave.slicing.placement import Shape, offload
from enclave_host import base_models
from enclave_host.pinning import pin
from enclave_host.proving.passes import InProcess
from enclave_host.unmasked import UnmaskedEngine, WrittenStore, cut_in_memory

LORA = Lora(8, 16, ("query", "key", "value", "dense"))
TEXTS = [
    "Persistent fever and a dry cough for nine days; no travel, no known contact.",
    "Knee pain after a fall, swelling on the left side, the scan shows a torn ligament.",
    "The dose was doubled in May and halved again when the headaches came back.",
    "Nothing remarkable.",
]


@pytest.fixture(scope="module")
def base():
    folder = base_models.resolve(base_models.EMBEDDED)
    spec = ModelSpec(base_models.EMBEDDED, "sequence-classification", pin(folder), ("no", "yes"), 32)
    return lambda: models.load(folder, spec)


@pytest.fixture(scope="module")
def cuts(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("widths")
    return {n: cut_in_memory(base()[0], LORA, 1, WrittenStore(folder / str(n), [n])) for n in (3, 4)}


def passed(model, batch):
    """Hidden states of real tokens, layer by layer, and one vector of all gradients."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_B" in name:  # zeros at first, and then no gradient would reach A
            parameter.data.normal_(0, 0.02, generator=generator)
    model.zero_grad()
    out = model(**batch, output_hidden_states=True)
    cross_entropy(out.logits.float(), torch.arange(len(TEXTS)) % 2).backward()
    gradients = [p.grad.flatten() for _, p in sorted(model.named_parameters()) if p.grad is not None]
    kept = batch["attention_mask"].bool()
    return [hidden.detach()[kept] for hidden in out.hidden_states], torch.cat(gradients)


def test_features_and_gradients_of_minilm_are_as_near_in_three_limbs_as_in_four(base, cuts):
    whole, tokenizer = base()
    encoded = tokenizer(TEXTS, return_tensors="pt", padding=True)
    batch = {key: encoded[key] for key in ("input_ids", "attention_mask")}
    hidden, gradient = passed(adapt(whole, LORA, 1), batch)
    near = {}
    for limbs, made in cuts.items():
        made.attach(UnmaskedEngine(made.store))
        mine, slope = passed(made.model, batch)
        near[limbs] = {
            "middle": float(cosine_similarity(hidden[3], mine[3]).mean()),
            "last": float(cosine_similarity(hidden[-1], mine[-1]).mean()),
            "gradient": float(cosine_similarity(gradient, slope, dim=0)),
        }
    for place in near[3]:
        assert near[3][place] > 0.999
        assert abs(near[3][place] - near[4][place]) < 5e-5, near


def test_every_product_of_minilm_has_three_limbs_in_one_part(base, tmp_path):
    store = cut_in_memory(base()[0], LORA, 1, WrittenStore(tmp_path)).store
    layers = store.layers.values()
    assert {p.limbs for layer in layers for p in layer.products} == {3}
    assert all(len(layer.forward) == len(layer.backward) == 1 for layer in layers)


def test_three_limbs_take_a_quarter_less_of_products_masks_pads_and_traffic(cuts, tmp_path):
    ids = torch.randint(100, 2000, (2, 8), generator=torch.Generator().manual_seed(1))
    taken = {}
    for limbs, made in cuts.items():
        masked = offload(made, InProcess(made.store.folder), tmp_path / str(limbs))
        shapes, heard = [Shape(2, 8, backward=True)], []
        masked.begin_round(1, shapes, heard.append)
        made.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()
        measures, products = masked.measures(), measures_of(made, 16)
        tags = 16 * measures["products"]
        assert measures["pads_inline"] == 0
        assert measures["bytes_out"] == products["masks"]
        taken[limbs] = {
            **products, "out": measures["bytes_out"], "back": measures["bytes_back"],
            "pads": heard[0].bytes - tags,
        }  # fmt: skip
    assert {name: taken[3][name] / taken[4][name] for name in taken[3]} == dict.fromkeys(taken[3], 0.75)


def measures_of(made, tokens):
    """Multiplications of int8 by int8, and bytes of masks, of a step in which each product sees all tokens.
    The pooler sees one token of each text and the first layer's input needs no gradient."""
    pooled = [group.layer for group in made.groups if "pooler" in group.layer.name]
    first = made.groups[0].layer
    products = [
        (p, 2 if layer in pooled else tokens)
        for layer in (group.layer for group in made.groups)
        for p in (layer.forward if layer is first else layer.products)
    ]
    return {
        "multiplications": sum(p.limbs * p.inner * p.outer * rows for p, rows in products),
        "masks": sum(p.limbs * p.inner * rows for p, rows in products),
    }
