"""What passes between a program and its host, and between a supervisor and its callers, is typed: each
operation has a struct for its arguments and one for its result, and neither holds what could be anything."""

import ast
import typing
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.program_calls import Call
from enclave.programs import slice_front, slice_offloaded
from enclave.programs.afterwards import Afterwards
from enclave.programs.aggregator import Aggregator
from enclave.programs.client_slice import ClientSlice
from enclave.programs.mailbox import Mailbox
from enclave.programs.split_server import SplitServer
from enclave_host import child_calls

MODULES = [
    *sorted(f"contracts.{path.stem}" for path in Path("contracts").glob("*_calls.py")),
    "enclave_jobs.supervisor.protocol",
]
BOUNDARIES = sorted(
    str(path)
    for pattern in (
        "contracts/*_calls.py",
        "enclave/programs/*.py",
        "enclave_host/process.py",
        "enclave_host/bounded*.py",
        "enclave_host/child_calls.py",
        "enclave_host/converting/*.py",
        "enclave_host/proving/__init__.py",
        "enclave_host/proving/__main__.py",
        "enclave_host/proving/trying.py",
        "enclave_jobs/base_models/*.py",
        "enclave_jobs/supervisor/*.py",
        "enclave_jobs/conductor/**/*.py",
        "enclave_jobs/enclaves/api.py",
        "enclave_jobs/serving/api.py",
        "site_agent/methods/method_1/*.py",
    )
    for path in Path().glob(pattern)
)
LOOSE = {
    ("enclave_jobs/conductor/finishing.py", "summary"),  # what the database keeps
    ("enclave/programs/round_ledger.py", "_draft"),  # from here on, numbers that a program tells itself
    ("enclave/programs/coded.py", "rounded_of_coded"),
    ("enclave/programs/several.py", "rounded_of_several"),
    ("enclave/programs/tables.py", "tables"),
    ("enclave/programs/tags.py", "rounded_of_tags"),
    ("enclave/programs/written.py", "facts_of_written"),
    ("enclave/programs/choices.py", "rounded_of_choices"),
}
"""Where a mapping of anything is taken or given."""


CHILDREN = [value for value in vars(child_calls).values() if isinstance(value, child_calls.ChildCall)]


@cache
def calls() -> dict[str, Call]:
    return {
        f"{module} {name}": value
        for module in MODULES
        for name, value in vars(import_module(module)).items()
        if isinstance(value, Call)
    }


def structs_in(hint: object) -> set[type]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return {hint}
    return set().union(*map(structs_in, typing.get_args(hint)))


def untyped(struct: type, seen: set[type]) -> set[tuple[str, str]]:
    """Fields of a struct, and of those in it, whose type holds `Any`, or a list or mapping of no type."""
    if struct in seen:
        return set()
    seen.add(struct)
    found = set()
    for name, hint in typing.get_type_hints(struct, include_extras=True).items():
        if "typing.Any" in repr(hint) or hint in (dict, list, tuple, object):
            found.add((struct.__name__, name))
        for inner in structs_in(hint):
            found |= untyped(inner, seen)
    return found


@pytest.mark.parametrize("name", sorted(calls()))
def test_neither_arguments_nor_result_hold_what_could_be_anything(name):
    call = calls()[name]
    for struct in (call.arguments, call.result):
        assert struct.__struct_config__.forbid_unknown_fields, struct
        assert untyped(struct, set()) == set()


@pytest.mark.parametrize("call", CHILDREN, ids=lambda call: call.module)
def test_what_a_bounded_child_is_asked_and_says_is_typed_as_well(call):
    for struct in (call.request, call.result, child_calls.ChildBounds, child_calls.ChildLine):
        assert struct.__struct_config__.forbid_unknown_fields, struct
        assert untyped(struct, set()) == set()
    assert import_module(f"{call.module}.__main__" if "trying" not in call.module else call.module)


@pytest.mark.parametrize("path", BOUNDARIES)
def test_no_file_at_a_boundary_takes_or_gives_a_mapping_of_anything(path):
    assert {(path, name) for name in loose_in(Path(path).read_text())} <= LOOSE


def loose_in(source: str) -> set[str]:
    """Functions and classes that take, give or hold `dict[str, Any]` by their annotations."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.kwarg]
            hints = [node.returns, *(argument.annotation for argument in arguments if argument)]
        elif isinstance(node, ast.ClassDef):
            hints = [line.annotation for line in node.body if isinstance(line, ast.AnnAssign)]
        else:
            continue
        if any("dict[str, Any]" in ast.unparse(hint) for hint in hints if hint):
            found.add(node.name)
    return found


def test_a_mapping_of_anything_at_a_boundary_would_be_seen():
    source = "def f(a: int) -> dict[str, Any] | None: ...\nclass A:\n    b: list[dict[str, Any]]"
    assert loose_in(source + "\ndef g(a: dict[str, int]) -> None: ...") == {"f", "A"}


def test_what_is_held_here_would_see_an_untyped_field():
    class Loose(msgspec.Struct):
        inner: dict[str, Any]

    class Outer(msgspec.Struct):
        many: list[Loose]

    hints = {"many": list[Loose]}
    assert structs_in(hints["many"]) == {Loose}
    assert untyped(Loose, set()) == {("Loose", "inner")}


def test_every_operation_of_every_program_is_one_of_these_calls(tmp_path):
    box = Mailbox(tmp_path)
    offered = [
        operation
        for program in (Aggregator, ClientSlice, SplitServer)
        for operation in program(None, box).operations.values()
    ]
    offered += Afterwards(None, box, None).operations.values()
    offered += slice_offloaded.offered(None, tmp_path).values()
    offered += slice_front.offered(None, None, None).values()
    known = list(calls().values())
    assert len(offered) > 25
    assert not [operation.call.name for operation in offered if operation.call not in known]
