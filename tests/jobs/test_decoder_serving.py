"""A decoder in service: a token stream with KV caches on both sides, and nothing of it at the coordinator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from site_agent.approvals import approved_manifest
from tests.jobs.asker import Asker
from tests.jobs.conftest import Consortium, ask
from tests.jobs.driver import COMMON, WORDS
from tests.support.installation import wait_for
from tests.support.on_disk import contents

pytestmark = pytest.mark.slow

PLAN = {
    "task": "causal-lm",
    "method": "method-2",
    "cut": 1,
    "attention_ratio": 50.0,
    "dense_ratio": 50.0,
    "rounds": 1,
    "release": "serve-only",
}
PROMPT = "patient with chest pain since the morning asks about seizure stroke"
TOKENS = 120


def make_decoder(folder: Path) -> Path:
    """A Llama of two layers with random weights and the vocabulary of the hospitals' words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *COMMON, *WORDS["routine"], *WORDS["urgent"]]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder
    )
    torch.manual_seed(1)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    heads = {"num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.4}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), pad_token_id=0, **size, **heads)).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def asker(coordinator: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    folder = tmp_path_factory.mktemp("decoder")
    model = make_decoder(folder / "model")
    coordinator.installation.manage(
        "register_model", str(model), "--name", "decoder", "--task", "causal-lm", "--targets", "q_proj"
    )
    for hospital in coordinator.hospitals.values():
        hospital.model = model
    run = coordinator.launch(**PLAN, model=str(model))
    coordinator.start()
    ended = coordinator.finished(run)
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    ask(coordinator.installation, verb="serve", run=run)
    asker = Asker(coordinator, run, folder / "anna")
    asker.model = model
    yield asker  # the hospitals' agents stay: a new enclave asks them which receipt was last
    coordinator.stop()


def written(asker: Asker, *more: str) -> str:
    arguments = ("--text", PROMPT, "--json", "--temperature", "2", "--seed", "5", *more)
    status, out, err = asker.predict(*arguments)
    assert status == 0, err
    return json.loads(out)["text"]


def test_a_prompt_is_gone_on_with_token_by_token_and_each_token_is_counted(asker: Asker) -> None:
    text = written(asker, "--max-new-tokens", "9")
    assert len(text.split()) == 9
    assert asker.use()["tokens"] == len(PROMPT.split()) + 8
    assert written(asker, "--max-new-tokens", "9") == text


@pytest.mark.long
def test_kill_minus_nine_in_mid_stream_replays_the_features_and_the_text_is_the_same(asker: Asker) -> None:
    more = ("--max-new-tokens", str(TOKENS))
    whole = written(asker, *more)
    before = asker.use()["tokens"]
    process = asker.start("--text", PROMPT, "--json", "--temperature", "2", "--seed", "5", *more)
    wait_for(lambda: asker.use()["tokens"] > before + len(PROMPT.split()) + 10, 60, "the stream's beginning")
    asker.consortium.kill("enclave.programs.split_server")
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    assert "asking again" in err
    assert json.loads(out)["text"] == whole


def test_neither_prompt_nor_features_nor_the_written_text_lie_at_the_coordinator(asker: Asker) -> None:
    from enclave.slicing.models import load
    from enclave.slicing.split import Front, Session

    text = written(asker, "--max-new-tokens", "30")
    manifest = approved_manifest(asker.state, asker.consortium.run(asker.run)["manifest_hash"])
    model, tokenizer = load(asker.model, manifest.model)
    ids = tokenizer(PROMPT)["input_ids"]
    features = Session(Front(model, 1)).step(torch.tensor([ids]))[0].to(torch.bfloat16)
    tokens = torch.tensor(tokenizer(text)["input_ids"][:8], dtype=torch.int32)
    needles = {
        "prompt": PROMPT.encode(),
        "text": " ".join(text.split()[:8]).encode(),
        "features": features.view(torch.int16).numpy().tobytes()[-64:],
        "tokens": tokens.numpy().tobytes(),
    }
    files = []
    for file, content in contents(asker.consortium.installation.folder):
        files.append(file)
        assert not [name for name, needle in needles.items() if needle in content], file
    assert any("sqlite" in file.name for file in files) and any("logs" in file.parts for file in files)
