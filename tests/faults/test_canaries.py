"""Marked rows and the tuned parameters are looked for, after a real run, in all that the coordinator and the
sites' hosts keep: database, Redis, blobs, logs, mails, mailboxes, error pages.

So that the search itself is known to work, the same run is made with a double of the source tree in which
sealing does not encrypt: there the search must find the parameters.
"""

from __future__ import annotations

import base64
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from redis import Redis, ResponseError
from transformers import PreTrainedTokenizerBase

from benchmarks.fedavg import fedavg
from contracts.manifest import Lora, Manifest, parse
from enclave.slicing import models
from enclave.slicing.adapters import adapt, load_tuned_state, tuned_state
from enclave.training.aggregate import State
from enclave.training.loop import train
from enclave.training.row_reader import encode, read_rows
from enclave_host import base_models
from enclave_host.unmasked import UnmaskedEngine, prepare_and_open
from tests.support import beginnings, story
from tests.support.installation import REPOSITORY, Agent, Installation, wait_for
from tests.support.on_disk import contents

pytestmark = [pytest.mark.timeout(900)]

LABELS = ("fracture", "fever", "rash")
WINDOW = 24
Needles = dict[str, bytes]


@dataclass
class Aftermath:
    """A finished run with all its folders still there."""

    installation: Installation
    agents: list[Agent]
    markers: list[str]
    manifest: Manifest


def _run(folder: Path, repository: Path, placement: str) -> Iterator[Aftermath]:
    model = str(beginnings.tiny_model())
    installation = Installation(folder / "coordinator", repository, model)
    installation.folder.mkdir(parents=True)
    markers = [f"canary-{secrets.token_hex(8)}" for _ in range(2)]
    agents: list[Agent] = []
    try:
        installation.start()
        story.found(installation)
        for number, marker in enumerate(markers):
            rows = [
                {"text": f"{marker} case {n}: the patient has a {LABELS[n % 3]}.", "label": LABELS[n % 3]}
                for n in range(36)
            ]
            agents.append(story.hospital(installation, folder / f"site{number}", f"Hospital {number}", rows))
        run = story.launched(installation, agents, rounds=2, placement=placement, model=model)
        result = story.ended(installation, run)
        assert result["state"] == "finished", result
        text = story.ask(installation, "answer = Run.objects.get(pk=run).manifest", run=run)
        _provoke_error_pages(installation)
        _dump_redis(installation)
        _keep_rings(installation)
        yield Aftermath(installation, agents, markers, parse(text.encode()))
    finally:
        for agent in agents:
            agent.stop()
        installation.stop()


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    """A masked run: its hosts keep an accelerator's weights, its ring and the vault of pads as well."""
    yield from _run(tmp_path_factory.mktemp("canaries"), REPOSITORY, "masked")


@pytest.fixture(scope="module")
def unsealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    """The same run on a copy of the tree whose AES-GCM frames are the plaintext and sixteen zeros."""
    folder = tmp_path_factory.mktemp("unsealed")
    double = folder / "tree"
    kept_out = shutil.ignore_patterns(
        "var", ".venv", ".git", "tests", "__pycache__", ".*_cache", ".hypothesis"
    )
    shutil.copytree(REPOSITORY, double, ignore=kept_out)
    frames = double / "contracts" / "sealed" / "frames.py"
    source = frames.read_text()
    seal = "cipher.encrypt_into(_nonce(index, last), frame, _associated(context, index), output)"
    opening = "cipher.decrypt_into(_nonce(index, last), frame, _associated(context, index), output)"
    assert seal in source and opening in source
    frames.write_text(
        source.replace(seal, "output[:length] = frame; output[length:] = bytes(TAG_BYTES)").replace(
            opening, "output[:] = frame[:length]"
        )
    )
    yield from _run(folder, double, "all_in_tee")


def _redis_socket(installation: Installation) -> Path:
    config = (installation.folder / "redis.conf").read_text()
    line = next(line for line in config.splitlines() if line.startswith("unixsocket "))
    return Path(line.split(" ", 1)[1].strip('"'))


def _dump_redis(installation: Installation) -> None:
    def saved() -> bool:
        with Redis(unix_socket_path=str(_redis_socket(installation))) as redis:
            try:
                return bool(redis.save())
            except ResponseError:  # it is just saving by itself
                return False

    wait_for(saved, 30, "Redis writes its dump")


def _keep_rings(installation: Installation) -> None:
    """What the accelerators share with the enclaves lies in shared memory; a copy goes beside the logs."""
    for number, pid in enumerate(installation.pids("enclave_host.accelerator")):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        shutil.copy(words[words.index("--channel") + 1], installation.folder / f"ring-{number}")


def _provoke_error_pages(installation: Installation) -> None:
    """Their bodies are kept beside the logs, so that the search sees them."""
    pages = (
        httpx.get(f"{installation.url}/nothing-here"),
        httpx.get(f"{installation.url}/api/agent/v1/none"),
        httpx.post(f"{installation.url}/api/agent/v1/lease", content=b"{"),
        httpx.post(f"{installation.url}/sign-in", data={"username": "nobody"}),
    )
    for number, page in enumerate(pages):
        assert page.status_code >= 400
        (installation.folder / f"error-page-{number}.html").write_bytes(page.content)


def _model(manifest: Manifest, folder: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model as the enclaves had it; a masked one multiplies the same integers here."""
    source, seed = base_models.resolve(manifest.model.source), manifest.training.seed
    assert isinstance(manifest.adapter, Lora)
    if manifest.masking is None:
        base, tokenizer = models.load(source, manifest.model)
        return adapt(base, manifest.adapter, seed), tokenizer
    opened = prepare_and_open(source, manifest.model, manifest.adapter, seed, folder)
    opened.cut.attach(UnmaskedEngine(opened.cut.store))
    return opened.cut.model, opened.tokenizer


def parameters(aftermath: Aftermath, folder: Path) -> dict[str, State]:
    """The initial and the final tuned state, computed again from rows and manifest as the enclaves did it."""
    torch.set_num_threads(1)
    manifest = aftermath.manifest
    model, tokenizer = _model(manifest, folder)
    initial = state = tuned_state(model)
    files = {}
    for agent in aftermath.agents:
        (rows,) = (agent.folder / "datasets").rglob("*.jsonl")
        member = next(s for s in manifest.sites if s.id in (agent.folder / "config.json").read_text())
        files[member.id] = rows
    for number in range(1, manifest.training.rounds + 1):
        updates = []
        for site in sorted(files):
            load_tuned_state(model, state)
            examples = encode(
                read_rows(files[site], manifest.model, "text-label").train, tokenizer, manifest.model
            )
            result = train(model, examples, manifest.training, round=number, site=site)
            updates.append((result.samples, tuned_state(model)))
        state = fedavg(updates)
    return {"initial": initial, "final": state}


def needles(aftermath: Aftermath, folder: Path) -> Needles:
    """A window out of every tensor that is not constant: as float32, as bfloat16, and both in base64. What
    tuning starts from unchanged (the pooler) stands in the public base model too and is no secret."""
    public = (base_models.resolve(aftermath.manifest.model.source) / "model.safetensors").read_bytes()
    found: Needles = {}
    for when, state in parameters(aftermath, folder).items():
        for name, tensor in state.items():
            if tensor.size < 64 or float(tensor.std()) == 0.0:
                continue
            values = torch.from_numpy(tensor).flatten()
            start = (values.numel() // 2) // 16 * 16
            forms = {
                "float32": values[start : start + WINDOW // 4].numpy().tobytes(),
                "bfloat16": values[start : start + WINDOW // 2]
                .bfloat16()
                .view(torch.int16)
                .numpy()
                .tobytes(),
            }
            if forms["float32"] in public:
                continue
            for form, window in forms.items():
                found[f"{when} {name} {form}"] = window
                for shift in range(3):
                    # Base64 of a longer text holds this window at one of three alignments.
                    inner = base64.b64encode(bytes(shift) + window)
                    found[f"{when} {name} {form} base64+{shift}"] = inner[4:-4]
    assert len(found) > 100
    return found


def haystack(aftermath: Aftermath, *, with_rows: bool) -> Iterator[tuple[Path, bytes]]:
    """Every file of the coordinator and of the sites' hosts; a site's own rows only where asked for."""
    roots = [aftermath.installation.folder, *(agent.folder for agent in aftermath.agents)]
    for root in roots:
        for file, content in contents(root):
            own_rows = "datasets" in file.relative_to(root).parts
            mailbox_rows = "data" in file.relative_to(root).parts
            if with_rows or not (own_rows or mailbox_rows):
                yield file, content


def search(files: Iterable[tuple[Path, bytes]], wanted: Needles) -> dict[str, str]:
    """What was found, and where."""
    found = {}
    for file, content in files:
        # Rings are nearly empty: a run of zeros says the same when it is short, if longer than any needle.
        content = content.replace(bytes(1 << 16), bytes(1 << 8))
        found.update({what: str(file) for what, needle in wanted.items() if needle in content})
    return found


def row_needles(aftermath: Aftermath) -> Needles:
    """The rows' markers as text, in base64 at each alignment, and in UTF-16."""
    wanted: Needles = {}
    for marker in aftermath.markers:
        wanted[marker] = marker.encode()
        wanted[f"{marker} utf-16"] = marker.encode("utf-16-le")
        for shift in range(3):
            wanted[f"{marker} base64+{shift}"] = base64.b64encode(bytes(shift) + marker.encode())[4:-4]
    return wanted


def test_no_row_is_found_in_anything_that_the_coordinator_or_a_log_keeps(aftermath: Aftermath) -> None:
    assert search(haystack(aftermath, with_rows=False), row_needles(aftermath)) == {}


def test_the_search_finds_rows_where_they_belong(aftermath: Aftermath) -> None:
    found = search(haystack(aftermath, with_rows=True), row_needles(aftermath))
    assert set(aftermath.markers) <= set(found)


def test_no_tuned_parameter_is_found_anywhere_outside_the_enclaves(
    aftermath: Aftermath, tmp_path: Path
) -> None:
    kept = list(haystack(aftermath, with_rows=True))
    names = {file.name for file, _ in kept}
    assert sum("blobs" in file.parts for file, _ in kept) >= 5
    assert any("sqlite" in name for name in names)
    assert {"redis.rdb", "ring-0", "ring-1", "weights.int8"} <= names
    assert all(any(content[1 << 16 :]) for file, content in kept if file.name.startswith("ring-"))
    assert search(kept, needles(aftermath, tmp_path)) == {}


@pytest.mark.long
def test_the_search_finds_parameters_when_sealing_does_not_encrypt(
    unsealed: Aftermath, tmp_path: Path
) -> None:
    found = search(haystack(unsealed, with_rows=True), needles(unsealed, tmp_path))
    assert any(what.startswith("final") and what.endswith("float32") for what in found), found
