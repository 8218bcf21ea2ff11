"""Two hospitals that spell a label differently train together once the manifest says what it stands for."""

from __future__ import annotations

import copy

from contracts.manifest import ModelSpec, Training
from enclave.programs.learner import load_learner
from tests.programs.conftest import DATASET_KEY, LABELS, Consortium

ONE_ROUND = Training(rounds=1, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7)


def test_rows_are_read_as_the_manifest_spells_them_and_stay_those_that_were_signed(house, code_of, tmp_path):
    other = copy.copy(house)
    shouted = tmp_path / "berta.jsonl"
    shouted.write_text(house.rows["berta"].read_text().replace('"urgent"', '"Urgent"'))
    assert shouted.read_text() != house.rows["berta"].read_text()
    other.rows = {**house.rows, "berta": shouted}
    spelt = ModelSpec("tiny", "sequence-classification", house.files, LABELS, 16, {"Urgent": "urgent"})
    run = Consortium(other, tmp_path / "run", other.manifest(model=spelt, training=ONE_ROUND))
    unspelt = other.manifest(training=ONE_ROUND)
    assert code_of(load_learner, unspelt, "berta", house.model, shouted, DATASET_KEY) == "rows.unknown_label"
    try:
        server = run.aggregator()
        clients = {site: run.client(site, server) for site in ("anna", "berta")}
        results = run.whole_run(server, clients)
        assert len(results) == 3 and all(result["receipt"] for result in results)
    finally:
        run.close()
