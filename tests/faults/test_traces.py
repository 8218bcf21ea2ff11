"""A run's spans, as a collector gets them from the real processes: they hang together, and hold ids alone."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from benchmarks.fleet_runs import consortium_of
from federation.spans import trace_of
from tests.jobs.driver import COMMON, LABELS, WORDS
from tests.support import beginnings
from tests.support.collector import collector
from tests.support.installation import Installation, wait_for

GIVEN = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_runs_spans_hang_together_and_hold_no_word_of_it(tmp_path: Path) -> None:
    with collector() as here:
        model = beginnings.tiny_model()
        engines = {"FEDSLICE_TRACES": here.address, "FEDSLICE_LOG_FORMAT": "json"}
        place = Installation(tmp_path / "state", model=str(model), engines=engines)
        place.folder.mkdir()
        try:
            place.start()
            place.manage("register_measurements")
            consortium, (group,) = consortium_of(place, model, tmp_path, 1)
            run = consortium.launch(group, rounds=1, deadline_seconds=600)
            consortium.start()
            assert consortium.finished(run, 400)["state"] == "finished"
            consortium.stop()
            httpx.get(f"{place.url}/invitations/canary-token/?canary-query=1", headers={"traceparent": GIVEN})
            trace, root = trace_of(run)
            wait_for(lambda: any(span["spanId"] == root for span in here.spans), 30, "the run's own span")
            wait_for(lambda: any(span["traceId"] == "a" * 32 for span in here.spans), 30, "the page's")
        finally:
            place.stop()

        spans = {span["spanId"]: span for span in here.spans}
        about = [span for span in spans.values() if span["attributes"].get("fedslice.run") == run]
        kinds = {span["name"].split(" ")[0] for span in about}
        assert {"run", "POST", "enclave_jobs.advance_run", "enclave"} <= kinds
        assert {span["attributes"].get("fedslice.round") for span in about} >= {"1"}
        for span in about:
            linked = {(link["traceId"], link["spanId"]) for link in span["links"]}
            assert span["traceId"] == trace or (trace, root) in linked, span
            parent = spans.get(span["parentSpanId"])
            assert span["parentSpanId"] == "" or (parent or span)["traceId"] == span["traceId"], span
            lost = span["parentSpanId"] and parent is None
            assert not lost, f"nobody told of the parent of {span}"
        inside = [span for span in about if span["name"] == "enclave aggregate"]
        assert inside and all(spans[span["parentSpanId"]]["kind"] in (2, 5) for span in inside)
        lines = place.log("supervisor")
        assert all(span["traceId"] in lines for span in inside), "the line about the program's work has it"

        reported = b"".join(here.bodies).decode()
        planted = {"canary", str(tmp_path), str(model), "SELECT", "Bearer"}
        assert {word for word in planted if word in reported} == set()
        rows = {*COMMON, *WORDS["routine"], *WORDS["urgent"], *LABELS} - {"a", "of", "with", "the"}
        assert rows & set(re.findall(r"\w+", reported)) == set()
