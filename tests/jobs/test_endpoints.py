"""What passes between a hospital's agent and the coordinator is typed: each request has a struct for its body
and one for its answer, which both ends share, and neither holds what could be anything."""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module
from pathlib import Path
from typing import get_origin

import msgspec
import pytest
from drf_spectacular.generators import SchemaGenerator

from contracts import agents_api
from contracts.agents_api.endpoint import Endpoint
from contracts.bound_request import AGENTS_API
from contracts.jobs import INPUTS, RESULTS, JobDone
from contracts.program_calls import Nothing
from tests.programs.test_calls import loose_in, structs_in, untyped

ENDPOINTS: dict[str, Endpoint[msgspec.Struct, object]] = {
    f"{module.name} {name}": value
    for module in pkgutil.iter_modules(agents_api.__path__)
    for name, value in vars(import_module(f"contracts.agents_api.{module.name}")).items()
    if isinstance(value, Endpoint)
}
SIGNED = {("ReceiptsAnswer", "receipts"), ("ReleaseItem", "receipt"), ("ReleaseItem", "statement")}
"""Raw JSON of what an enclave has signed, which has a strict reader of its own."""
RAW = {*SIGNED, ("ReleaseStatementAnswer", "statement"), ("LeasedJob", "inputs")}
BORDER = sorted(
    str(path)
    for pattern in (
        "contracts/jobs.py",
        "contracts/agents_api/*.py",
        "enclave_jobs/jobs/*.py",
        "enclave_jobs/*/api*.py",
        "federation/*/api*.py",
        "site_agent/**/*.py",
    )
    for path in Path().glob(pattern)
    if path.parts[0] != "site_agent"
    or {"transport", "agents_api"} & set(re.findall(r"\w+", path.read_text()))
)
"""Of the agent, whatever speaks with the coordinator."""
LOOSE = {
    ("enclave_jobs/jobs/leases.py", "_own"),  # what the database keeps
    ("enclave_jobs/jobs/leases.py", "complete"),
    ("site_agent/predict_commands.py", "write"),  # a line of the hospital's own file of answers
    ("site_agent/witness.py", "require"),  # the body of an entry of the log, whose kind says what it has
}


@pytest.mark.parametrize("name", sorted(ENDPOINTS))
def test_neither_body_nor_answer_holds_what_could_be_anything(name: str) -> None:
    endpoint = ENDPOINTS[name]
    assert endpoint.body is JobDone or endpoint.body.__struct_config__.forbid_unknown_fields
    assert untyped(endpoint.body, set()) == set()
    answers = structs_in(endpoint.answer)
    assert answers and get_origin(endpoint.answer) in (None, list)
    for answer in answers:
        assert untyped(answer, set()) == set()
        assert raw(answer) <= RAW


@pytest.mark.parametrize("kind", sorted(RESULTS))
def test_inputs_and_results_of_jobs_say_all_that_they_may_hold(kind: str) -> None:
    for struct in (INPUTS[kind], RESULTS[kind]):
        assert struct.__struct_config__.forbid_unknown_fields
        assert untyped(struct, set()) == set() == raw(struct)


def raw(struct: type) -> set[tuple[str, str]]:
    """Fields that hold JSON as it stands."""
    fields = msgspec.structs.fields(struct)
    return {(struct.__name__, field.name) for field in fields if "Raw" in repr(field.type)}


@pytest.mark.parametrize("path", BORDER)
def test_no_file_at_this_border_takes_or_gives_a_mapping_of_anything(path: str) -> None:
    assert {(path, name) for name in loose_in(Path(path).read_text())} <= LOOSE


def test_each_operation_of_the_api_is_one_of_these_endpoints_and_no_other_is_there() -> None:
    """The file itself, which is no JSON, stands beside them."""
    schema = SchemaGenerator().get_schema(request=None, public=True)
    answered = {
        (method.upper(), path.removeprefix(AGENTS_API), "requestBody" in operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }
    known = {
        (endpoint.method, endpoint.path, endpoint.method in ("POST", "PATCH"))
        for endpoint in ENDPOINTS.values()
    }
    assert answered - {("GET", "blobs/{sha256}", False)} == known
    assert len(known) == len(ENDPOINTS)


def test_what_varies_in_a_path_cannot_lead_to_another_one() -> None:
    endpoint = Endpoint("GET", "runs/{run}/manifest", Nothing, Nothing)
    assert endpoint.at(run="r-1") == "runs/r-1/manifest"
    assert endpoint.at({"after": 3}, run="../x?y#") == "runs/..%2Fx%3Fy%23/manifest?after=3"
