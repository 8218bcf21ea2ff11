"""Each folder of tests mirrors packages, or is of a kind that crosses them (CONTRIBUTING.md says which); each
package stands in the order of imports once."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter

import pytest

from tests.packaging.test_docstrings import parsed
from tests.packaging.test_words import tracked
from tests.support.installation import REPOSITORY

MIRRORS = {
    "attest": ("attestation",),
    "attest_sources": ("attestation", "enclave_host"),
    "federation": ("federation",),
    "frontend": ("frontend",),
    "jobs": ("enclave_jobs",),
    "log": ("transparency_log", "contracts.log"),
    "manifest_summary": ("manifest_summary",),
    "masking": ("enclave.masking", "enclave.slicing"),
    "outgoing": ("outgoing",),
    "privacy_accounting": ("privacy_accounting",),
    "programs": ("enclave.programs",),
    "sealing": ("contracts",),
    "site_agent": ("site_agent",),
    "slicing": ("enclave.slicing",),
    "training": ("enclave.training", "enclave_host", "enclave.slicing"),
}
"""A folder of tests, and the packages that it is about."""
OF_A_KIND = {
    "attacks", "consent", "faults", "fuzz", "german", "gramine", "journeys", "packaging", "proxies",
    "supply_chain", "support",
}  # fmt: skip
"""What crosses packages: several at once, or the repository itself. `support` is what tests share."""
TESTED_ELSEWHERE = {
    "error_catalogue": "tests/packaging",
    "translations": "tests/german",
    "kernels": "tests/packaging/test_kernels.py",
}
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
FOLDERS = {path.split("/")[1] for path in tracked("tests/*/*.py")}
PACKAGES = {path.split("/")[0] for path in tracked("*/*.py")} - {"tests", "benchmarks", ".ci", "docs"}


def imported_by(folder: str) -> Counter[str]:
    """How often each module of ours is imported by the tests of a folder."""
    return Counter(
        module
        for path in tracked(f"tests/{folder}/*.py")
        for node in ast.walk(parsed(REPOSITORY / path))
        if isinstance(node, ast.ImportFrom) and (module := node.module) and module.split(".")[0] in PACKAGES
    )


def within(modules: Counter[str], package: str) -> int:
    return sum(times for name, times in modules.items() if f"{name}.".startswith(f"{package}."))


def test_each_folder_of_tests_mirrors_a_package_or_is_of_a_kind() -> None:
    assert MIRRORS.keys() | OF_A_KIND == FOLDERS and not MIRRORS.keys() & OF_A_KIND


@pytest.mark.parametrize("folder", sorted(MIRRORS))
def test_a_folder_uses_each_package_that_it_mirrors(folder: str) -> None:
    modules = imported_by(folder)
    if folder == "frontend":  # pages are asked by their addresses
        assert "reverse(" in "".join(
            (REPOSITORY / path).read_text("utf-8") for path in tracked("tests/frontend/*.py")
        )
    else:
        assert all(within(modules, package) for package in MIRRORS[folder])


@pytest.mark.parametrize(
    "folder", ["attest", "jobs", "masking", "programs", "site_agent", "slicing", "training"]
)
def test_and_none_more_than_these_but_the_contracts(folder: str) -> None:
    """Contracts are used by all; what a run needs of people and studies, federation's services make."""
    modules = imported_by(folder)
    own = sum(within(modules, package) for package in MIRRORS[folder])
    tops = Counter[str]()
    for name, times in modules.items():
        tops[name.split(".")[0]] += times
    about = {package.split(".")[0] for package in MIRRORS[folder]}
    others = {top: times for top, times in tops.items() if top not in about | {"contracts", "federation"}}
    assert own > max(others.values(), default=0)


def test_every_package_has_its_tests() -> None:
    mirrored = {package.split(".")[0] for packages in MIRRORS.values() for package in packages}
    assert PACKAGES - mirrored == TESTED_ELSEWHERE.keys()
    assert all((REPOSITORY / place).exists() for place in TESTED_ELSEWHERE.values())


def test_the_page_for_contributors_lists_them() -> None:
    page = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    table = page.split("| tests in | are about |")[1].split("\n\n")[0]
    rows = dict(re.findall(r"^\| `tests/(\w+)/` \| (.+) \|$", table, re.MULTILINE))
    assert rows.keys() == MIRRORS.keys() | OF_A_KIND
    for folder, packages in MIRRORS.items():
        assert re.findall(r"`([\w.]+)`", rows[folder]) == list(packages)


def test_every_package_stands_in_the_order_of_imports_once() -> None:
    linter = PROJECT["tool"]["importlinter"]
    order = next(contract for contract in linter["contracts"] if contract["type"] == "layers")
    placed = [name for layer in order["layers"] for name in layer.split(" | ")]
    assert sorted(placed) == sorted(linter["root_packages"]) == sorted(PACKAGES - {"kernels"})
    assert set(PROJECT["tool"]["mypy"]["files"]) == set(placed)
