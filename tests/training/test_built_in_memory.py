"""A model that is built in memory is the one that transformers builds by itself, value by value."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from enclave.slicing.eager import built_in_memory
from tests.slicing.small import LABELS, MODELS, model


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
