"""Docstrings of the rooms that an enclave loads from have one form, and name the codes that are really
raised."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from error_catalogue import CATALOGUE
from tests.support.installation import REPOSITORY

MEASURED = ("contracts", "attestation", "enclave")
PACKAGES = (
    *MEASURED, "enclave_host", "enclave_jobs", "federation", "frontend", "manifest_summary", "outgoing",
    "privacy_accounting", "site_agent", "transparency_log",
)  # fmt: skip
SECTIONS = ("Args", "Returns", "Raises", "Source")
CODE = re.compile(r"`([a-z_]+\.[a-z_]+)`")
TENSOR = re.compile(r"\b(Tensor|NDArray|Packed)\b")
SHAPE = re.compile(r"\([\w…][^()]*\)|\(\)")
DTYPE = re.compile(r"\b(float|float32|float64|bf16|int8|int32|int64|uint8|words|residues|ids|dtype)\b")
CITED = re.compile(r"arXiv \d|Intel, \"|\bRFC \d+, section|Intel SDM|\(\w+ and \w+, \d{4}\)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def trees(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    for package in packages:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield str(path.relative_to(REPOSITORY)), parsed(path)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def documented(*packages: str) -> Iterator[tuple[str, ast.AST, str]]:
    """Every docstring of these packages, with its place and what it is of."""
    for path, tree in trees(*packages):
        for node in ast.walk(tree):
            if isinstance(node, Function | ast.ClassDef | ast.Module) and (text := ast.get_docstring(node)):
                yield f"{path}: {getattr(node, 'name', 'the module')}", node, text


def section_of(paragraph: str) -> str | None:
    found = re.match(r"(\w+):", paragraph)
    return found[1] if found and found[1] in SECTIONS else None


def section(text: str, name: str) -> str:
    """What the section says; empty without one."""
    return next((part for part in text.split("\n\n") if section_of(part) == name), "")


def raises_of(text: str) -> str:
    return section(text, "Raises")


def raised_by(function: Function) -> set[str]:
    """The codes that it raises itself, not what is defined within it."""
    found, left = set(), list[ast.AST](function.body)
    while left:
        node = left.pop()
        if isinstance(node, Function | ast.ClassDef | ast.Lambda):
            continue
        match node:
            case ast.Raise(
                exc=ast.Call(func=ast.Name(id="Refusal"), args=[ast.Constant(value=str(code)), *_])
            ):
                found.add(code)
        left += ast.iter_child_nodes(node)
    return found


def functions(node: ast.AST) -> Iterator[Function]:
    """Public ones, of public classes too, that have a body; an interface's that are `...` have none."""
    for child in ast.iter_child_nodes(node):
        public = not getattr(child, "name", "_").startswith("_")
        if isinstance(child, ast.ClassDef) and public:
            yield from functions(child)
        elif isinstance(child, Function) and public and not is_dots(child.body[0]):
            yield child


def is_dots(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and (statement.value.value is ...)
    )


def unstated(function: Function) -> Iterator[str]:
    """Of its arguments and its result those that are arrays and of which no shape or dtype stands there."""
    text = ast.get_docstring(function) or ""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    arrays = [one.arg for one in arguments if one.annotation and TENSOR.search(ast.unparse(one.annotation))]
    said = section(text, "Args")
    for name in arrays:
        if f"`{name}`" not in said:
            yield name
    if arrays and not (SHAPE.search(said) and DTYPE.search(said)):
        yield "shape and dtype of arguments"
    if function.returns and TENSOR.search(ast.unparse(function.returns)):
        said = section(text, "Returns")
        if not (SHAPE.search(said) and DTYPE.search(said)):
            yield "shape and dtype of the result"


def faults(text: str) -> Iterator[str]:
    """What of a docstring's form is wrong."""
    names = [section_of(paragraph) for paragraph in text.split("\n\n")]
    sections = [name for name in names if name is not None]
    if names[len(names) - len(sections) :] != sections:
        yield "a section stands before prose"
    if sections != [name for name in SECTIONS if name in sections]:
        yield f"sections stand in the order {sections}"
    if re.search(r"\n(Args|Returns|Raises|Source):", re.sub(r"\n\n", "\0", text)):
        yield "no blank line before a section"
    if re.search(r"(^|[.:;] )Refuses (with|as) ", " ".join(text.split())):
        yield "it refuses in its prose; say `Raises:`"


def test_sections_come_last_each_a_paragraph_in_one_order() -> None:
    found = [f"{place}: {fault}" for place, _, text in documented(*PACKAGES) for fault in faults(text)]
    assert not found, "\n".join(found)


def test_who_takes_or_gives_arrays_states_their_shapes_and_dtypes() -> None:
    missing = [
        f"{path}: {function.name}: {fault}"
        for path, tree in trees(*MEASURED)
        for function in functions(tree)
        for fault in unstated(function)
    ]
    assert not missing, "\n".join(missing)


def test_what_is_cited_stands_under_its_source() -> None:
    """A paper, a specification's section: found in one place. The name of a format alone is no citation."""
    elsewhere = [
        f"{place}: {cited[0]}"
        for place, _, text in documented(*MEASURED)
        for paragraph in text.split("\n\n")
        if section_of(paragraph) != "Source"
        for cited in CITED.finditer(" ".join(paragraph.split()))
    ]
    assert not elsewhere, "\n".join(elsewhere)


def test_what_a_function_raises_itself_stands_in_its_docstring() -> None:
    missing = [
        f"{place}: {code}"
        for place, node, text in documented(*MEASURED)
        if isinstance(node, Function) and not node.name.startswith("_")
        for code in sorted(raised_by(node))
        if f"`{code}`" not in raises_of(text) and f"`{code.split('.')[0]}.*`" not in raises_of(text)
    ]
    assert not missing, "\n".join(missing)


def test_what_is_said_to_be_raised_is_in_the_catalogue_and_somewhere_in_the_code() -> None:
    """Outside of docstrings: a code that nothing raises any more would mislead whoever handles it."""
    used = {
        node.value
        for _, tree in trees(*PACKAGES)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in CATALOGUE
    }
    wrong = [
        f"{place}: {code}"
        for place, _, text in documented(*PACKAGES)
        for code in CODE.findall(raises_of(text))
        if code.split(".")[0] in {known.split(".")[0] for known in CATALOGUE} and code not in used
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("It. Refuses with `a.b`.", "it refuses in its prose; say `Raises:`"),
        ("It.\n\nRaises: `a.b`.\n\nMore.", "a section stands before prose"),
        ("It.\n\nRaises: `a.b`.\n\nReturns: c.", "sections stand in the order ['Raises', 'Returns']"),
        ("It.\nRaises: `a.b`.", "no blank line before a section"),
    ],
)
def test_another_form_is_found(text: str, fault: str) -> None:
    assert fault in list(faults(text))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("It.", ["x", "shape and dtype of arguments", "shape and dtype of the result"]),
        ("It.\n\nArgs: `x` (rows,) int64.", ["shape and dtype of the result"]),
        ("It.\n\nArgs: `x` (rows,).\n\nReturns: () float32.", ["shape and dtype of arguments"]),
        ("It.\n\nArgs: `x` (rows,) int64.\n\nReturns: (rows, inputs) float32.", []),
    ],
)
def test_an_array_without_shape_or_dtype_is_found(text: str, fault: list[str]) -> None:
    (function,) = ast.parse(f"def f(x: Tensor) -> Tensor:\n    {text!r}\n").body
    assert isinstance(function, ast.FunctionDef) and list(unstated(function)) == fault


def test_only_what_a_function_raises_itself_is_counted() -> None:
    source = (
        'def f():\n    def g():\n        raise Refusal("a.b")\n    raise Refusal("c.d", fact=1) from error\n'
    )
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef) and raised_by(function) == {"c.d"}


def test_the_repository_is_looked_at() -> None:
    assert len(list(documented(*MEASURED))) > 1000 and Path(REPOSITORY / "contracts").is_dir()
