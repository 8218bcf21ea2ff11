"""A model that is built in memory is the one that transformers builds by itself, value by value."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from enclave.slicing.models import built_in_memory, load
from tests.slicing.small import LABELS, MODELS, model
from tests.training.tiny import classifier_spec


@pytest.mark.parametrize(("name", "head"), [*MODELS, ("llama", "fresh"), ("bert", "fresh")])
def test_a_model_built_in_memory_is_the_one_that_transformers_builds(name, head, tmp_path):
    whole = model(name, "lm" if head == "lm" or (head == "fresh" and name == "llama") else "classifier")
    (whole.base_model if head == "fresh" and name == "bert" else whole).save_pretrained(tmp_path)
    automatic = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
    labels = {} if head == "lm" else {"num_labels": LABELS}

    def built():
        torch.manual_seed(0)
        return automatic.from_pretrained(tmp_path, local_files_only=True, **labels)

    expected = built()
    with built_in_memory():
        found = built()
    ours, theirs = (dict([*m.named_parameters(), *m.named_buffers()]) for m in (found, expected))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    ids = torch.randint(3, 40, (2, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(found.eval()(input_ids=ids).logits, expected.eval()(input_ids=ids).logits)


def test_models_built_by_several_threads_at_once_are_each_the_same(bert_folder):
    """An agent with two runs builds two fronts at once: neither draws from the other's generator, and no
    buffer is left as memory happened to be."""
    spec = classifier_spec(bert_folder)
    alone = load(bert_folder, spec)[0]
    with ThreadPoolExecutor(6) as pool:
        several = list(pool.map(lambda _: load(bert_folder, spec)[0], range(24)))
    names = dict([*alone.named_parameters(), *alone.named_buffers()])
    for made in (*several, load(bert_folder, spec)[0]):
        found = dict([*made.named_parameters(), *made.named_buffers()])
        assert [key for key in names if not torch.equal(names[key], found[key])] == []
