"""The benchmark's strategies share rows, passes and code; its hospitals are disjoint."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import msgspec
import pytest
import torch

from benchmarks import learning
from benchmarks.fedavg import fedavg
from benchmarks.hospitals import MEDQUAD, hospitals, label_names, read_site, write
from contracts.manifest import Privacy
from enclave.slicing.adapters import load_tuned_state, tuned_state
from enclave.training import rates
from enclave.training.loop import train
from enclave.training.row_reader import SiteRows
from privacy_accounting.epsilon import epsilon, planned
from tests.training.tiny import BERT_ADAPTER, ROWS, classifier_spec, settings

MEDQUAD_FOLDER = Path(__file__).parents[2] / "../shared/datasets/medquad-qtype"
HELD_OUT = ("validation", "test")


def folder_of(path: Path, sites: list[str | None]) -> Path:
    path.mkdir()
    for name, count in (("train", 60), ("test", 30)):
        with gzip.open(path / f"{name}.jsonl.gz", "wt") as lines:
            for number in range(count):
                site = sites[number % len(sites)]
                record = {"text": f"{name} {number} {site}", "label": "ab"[number % 2]}
                lines.write(json.dumps(record if site is None else {**record, "site": site}) + "\n")
    return path


def test_rows_stay_with_their_source_and_in_one_hospital(tmp_path: Path) -> None:
    sites = hospitals(folder_of(tmp_path / "d", ["p", "q", "r", "s"]), rows=None)
    assert list(sites) == ["hospital-1", "hospital-2", "hospital-3"]
    sources = [{row.text.split()[-1] for row in [*rows.train, *rows.test]} for rows in sites.values()]
    assert sorted(source for each in sources for source in each) == ["p", "q", "r", "s"]
    assert sum(len(rows.train) for rows in sites.values()) == 60


def test_rows_without_a_source_are_dealt_evenly_once_and_by_the_seed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d", [None])
    sites = hospitals(folder, rows=None, seed=1)
    assert [len(rows.train) for rows in sites.values()] == [20, 20, 20]
    assert len({row for rows in sites.values() for row in rows.train}) == 60
    assert hospitals(folder, rows=None, seed=1) == sites != hospitals(folder, rows=None, seed=2)
    fewer = hospitals(folder, rows=5, test_rows=4, seed=1)
    assert all(fewer[site] == SiteRows(rows.train[:5], [], rows.test[:4]) for site, rows in sites.items())


@pytest.mark.skipif(
    not MEDQUAD_FOLDER.is_dir(), reason="the medquad-qtype corpus is not beside this checkout"
)
def test_every_medquad_collection_belongs_to_one_hospital() -> None:
    sites = hospitals(MEDQUAD_FOLDER, rows=None)
    assert list(sites) == sorted(MEDQUAD)
    assert sum(len(rows.train) for rows in sites.values()) == 8352
    assert len(label_names(sites)) == 13
    genetic = {
        site: sum(row.label == "genetic changes" for row in rows.train) for site, rows in sites.items()
    }
    assert genetic == {"general-hospital": 1, "genetics-clinic": 746, "rare-disease-centre": 0}


def test_a_written_site_reads_back(tmp_path: Path) -> None:
    held_out = [[msgspec.structs.replace(row, split=split) for row in ROWS[5:]] for split in HELD_OUT]
    rows = SiteRows([*ROWS[:5]], *held_out)
    write(rows, tmp_path / "site.jsonl")
    assert read_site(tmp_path / "site.jsonl") == rows


@pytest.fixture
def study(bert_folder: Path) -> learning.Study:
    sites = {
        "b": SiteRows(ROWS[4:8], [], ROWS[8:10]),
        "a": SiteRows(ROWS[:4], [], ROWS[8:9]),
        "c": SiteRows(ROWS[6:9], [], ROWS[9:]),
    }
    return learning.study(sites, classifier_spec(bert_folder), BERT_ADAPTER, settings(), bert_folder)


def test_federated_training_is_the_same_bit_for_bit(study: learning.Study) -> None:
    assert list(study.sites) == ["a", "b", "c"]
    curve = learning.federated(study)
    torch.manual_seed(99)
    assert learning.federated(study) == curve
    assert len(curve) == 2
    assert curve[0] != curve[1]
    assert curve[0].rows == 2 + 1 + 3


def test_one_site_in_one_round_is_centralised_training(study: learning.Study) -> None:
    training = msgspec.structs.replace(study.training, rounds=1)
    single = learning.Study(
        study.folder, study.model, study.adapter, training, {"centralised": study.sites["a"]}, study.tests
    )
    assert learning.federated(single)[-1] == learning.centralised(single)


def test_every_site_of_a_round_starts_from_the_same_parameters(study: learning.Study) -> None:
    training = msgspec.structs.replace(study.training, rounds=1)
    updates = []
    for site, examples in study.sites.items():
        model = study.fresh()
        train(model, examples, training, round=1, site=site)
        updates.append((len(examples), tuned_state(model)))
    load_tuned_state(model, fedavg(updates))
    assert learning.federated(dataclasses.replace(study, training=training)) == [study.scores(model)]


def test_noise_per_site_is_federated_training_with_what_the_manifest_adds(study: learning.Study) -> None:
    """With a clip that cuts nothing and next to no noise it is the same; with noise it is another."""
    federated = rates.loss(learning.federated(study)[-1])
    quiet, _ = learning.noisy(dataclasses.replace(study, noise=1e-14, clip=1e9), "site")
    assert rates.loss(quiet[-1]) == pytest.approx(federated, abs=1e-3)
    loud, spent = learning.noisy(dataclasses.replace(study, noise=1.0, clip=0.5), "site")
    assert spent == epsilon(planned(Privacy("site", 1.0, 1e-5), study.training, 1), 1e-5)
    assert rates.loss(loud[-1]) != pytest.approx(federated, abs=1e-3)


def test_noise_per_record_trains_each_site_privately(study: learning.Study) -> None:
    curve, spent = learning.noisy(study, "record")
    worst = max(
        epsilon(planned(Privacy("record", 1.0, 1e-5, 1.0), study.training, len(rows)), 1e-5)
        for rows in study.sites.values()
    )
    assert spent == worst
    assert len(curve) == 2
    assert curve != learning.noisy(study, "record")[0]


def test_the_head_trains_nothing_of_the_encoder(study: learning.Study) -> None:
    assert set(tuned_state(study.fresh(head_only=True))) == {"head.weight", "head.bias"}
    assert len(learning.federated(study, head_only=True)) == 2


def test_baselines_come_from_the_agents_own_files(study: learning.Study, tmp_path: Path) -> None:
    files = {}
    for site in ("a", "b"):
        files[site] = tmp_path / f"{site}.jsonl"
        write(SiteRows(ROWS[:8], ROWS[8:9], ROWS[8:]), files[site])
    found = learning.baselines(files, study.model, study.adapter, study.training, study.folder)
    assert set(found["local"]) == {"a", "b"}
    mean = (found["local"]["a"]["accuracy"] + found["local"]["b"]["accuracy"]) / 2
    assert found["accuracy_local_mean"] == pytest.approx(mean)
    assert found["centralised"]["rows"] == 2 * len(ROWS[8:])


def test_the_command_prints_one_figure_a_line(
    tmp_path: Path, bert_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder_of(tmp_path / "d", ["p", "q", "r"])
    code = learning.main(
        ["--data", str(data), "--model", str(bert_folder), "--max-tokens", "8", "--rounds", "1",
         "--seeds", "0,1", "--threads", "1", "--rows-per-site", "6", "--test-rows-per-site", "4", "--rank",
         "2", "--json"]
    )  # fmt: skip
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert all(set(line) == {"figure", "value", "unit", "goal", "better", "config"} for line in lines)
    figures = {line["figure"]: line for line in lines}
    assert {f"learning.accuracy.{strategy}" for strategy in learning.STRATEGIES} <= figures.keys()
    margin = figures["learning.margin.federated_over_local"]
    assert margin["value"] == pytest.approx(
        figures["learning.accuracy.federated"]["value"] - figures["learning.accuracy.local"]["value"],
        abs=0.02,
    )
    assert len(margin["config"]["each"]) == 2
