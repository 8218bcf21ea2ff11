"""Inside the apps packages import one another in circles nowhere but where this page says so."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from tests.support.installation import REPOSITORY

IN_CIRCLES = {
    "federation": {"attestation", "audit", "datasets", "people", "sites", "studies", "threads"},
    "enclave_jobs": {
        "blobs", "conductor", "enclaves", "jobs", "releases", "retention", "runs", "serving", "supervisor",
    },
    "frontend": set(),
    "site_agent": {"approval_key", "token_key", "datasets", "ledger"},
}  # fmt: skip
"""Models that name each other, and an API or tasks that stand with their noun (decision 38)."""


def arrows(app: str) -> dict[str, set[str]]:
    """From each package, or module beside them, to those that it imports, at any level of its code."""
    sources = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (REPOSITORY / app).rglob("*.py")
        if not {"migrations", "management"} & set(path.parts)
    }
    found: dict[str, set[str]] = defaultdict(set)
    for module, path in sources.items():
        room = module.split(".")[1:2]
        for name in imported(ast.parse(path.read_text("utf-8"))):
            other = name.split(".")[1:2] if name in sources and name.startswith(f"{app}.") else room
            if room and other != room:
                found[room[0]].add(other[0])
    return found


def imported(tree: ast.Module) -> Iterator[str]:
    """But for what only the checker of types sees."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def in_circles(found: dict[str, set[str]]) -> set[str]:
    """Those from which some way leads back."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            fresh = found.get(ahead.pop(), set()) - seen
            seen |= fresh
            ahead += fresh
        return seen

    return {room for room in found if room in reached(room)}


def test_no_package_of_an_app_joins_a_circle() -> None:
    assert {app: in_circles(arrows(app)) for app in IN_CIRCLES} == IN_CIRCLES


def test_a_circle_would_be_seen() -> None:
    assert in_circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}
