"""A coordinator brings several enclaves of one run through the same rounds, by the same signatures and with
the clock that it shows them, so that each has made the receipt that the hospitals approve, and each counts a
member's answers for itself (Method 2, on machines whose TEE has no sealing key)."""

from __future__ import annotations

import sys
import time

import pytest

from contracts.manifest import Release
from contracts.receipt_chain import parse_receipt
from contracts.receipts import NO_RECEIPT, receipt_hash
from enclave.slicing.models import load
from enclave.slicing.questions import ask_about
from enclave.slicing.split import Front
from enclave.training.row_reader import encode, read_rows
from enclave_host import process as host
from tests.attacks.forger import ACCOMPLICE, HONEST
from tests.programs.split_house import SplitRun, split_manifest
from tests.programs.test_split_serving import ask, enter

STANDS = (
    "import runpy, sys, time; now = int(sys.argv[1]); time.time = lambda: now; del sys.argv[:2]; "
    "runpy.run_module('enclave.programs.split_server', run_name='__main__', alter_sys=True)"
)
"""A host's clock is what the host says."""


@pytest.fixture
def run(house, keyless, tmp_path, consortium_class, monkeypatch):
    now = str(int(time.time()))
    command = [sys.executable, "-c", STANDS, now, "split_server", "--mailbox"]
    monkeypatch.setattr(host, "command", lambda _program, _runtime, mailbox: [*command, str(mailbox)])
    manifest = split_manifest(house, release=Release("serve-only", 1, answers=1))
    consortium = consortium_class(house, tmp_path / "run", manifest)
    (tmp_path / "sites").mkdir()
    yield SplitRun(consortium, tmp_path / "sites")
    consortium.close()


def trained(run: SplitRun, machine: str):
    """Another server, through all rounds from the beginning."""
    server = run.consortium.bound("split_server", machine)
    server.call("prepare", model=run.consortium.given(server, run.consortium.house.model))
    run.results = []
    for site in (HONEST, ACCOMPLICE):
        run.join(server, site)
    previous = NO_RECEIPT
    for number in (*range(1, run.manifest.training.rounds + 2), run.manifest.last_round):
        run.results.append(run.round(server, number, previous))
        previous = receipt_hash(parse_receipt(run.results[-1]["receipt"]).receipt)
    return server


def question(run: SplitRun) -> bytes:
    model, tokenizer = load(run.consortium.house.model, run.manifest.model)
    rows = read_rows(run.consortium.house.rows[ACCOMPLICE], run.manifest.model, "text-label").test[:1]
    examples = encode(rows, tokenizer, run.manifest.model)
    return ask_about(Front(model, 1), examples.tokens, examples.padding)


def test_an_enclave_that_has_made_the_receipt_itself_answers_only_where_sites_have_named_it(
    run: SplitRun, keyless, code_of
) -> None:
    first, second = trained(run, keyless), trained(run, keyless)
    assert first.call("status")["receipt"] == second.call("status")["receipt"] == run.last
    asked = question(run)
    for twin in (first, second):
        assert code_of(enter, run, twin, ACCOMPLICE) == "state.not_named"
    run.name(first)
    assert ask(first, enter(run, first, ACCOMPLICE), asked)
    assert code_of(lambda: ask(first, enter(run, first, ACCOMPLICE), asked)) == "serving.quota"
    assert code_of(enter, run, second, ACCOMPLICE) == "state.not_named"
