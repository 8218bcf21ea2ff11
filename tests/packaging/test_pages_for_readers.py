"""What pages for readers name, is there: who follows ARCHITECTURE.md to a file finds it."""

from __future__ import annotations

import re

import pytest

from tests.packaging.test_words import tracked
from tests.support.installation import REPOSITORY

PAGES = (
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/protocol.md",
    "docs/threat-model.md",
    "docs/operations.md",
    "docs/glossary.md",
    "tests/attacks/README.md",
)
PATH = re.compile(r"`((?:\w+/)+[\w.-]*)`")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)")
OF_A_CLASS = re.compile(r"\.[A-Z]\w*$")


def known() -> set[str]:
    files = tracked("*")
    folders = {path.rsplit("/", up)[0] for path in files for up in range(1, path.count("/") + 1)}
    return {*files, *folders}


@pytest.mark.parametrize("page", PAGES)
def test_each_path_of_the_repository_that_a_page_names_is_there(page: str) -> None:
    there = known()
    tops = {path.split("/")[0] for path in there}
    named = PATH.findall((REPOSITORY / page).read_text("utf-8"))
    gone = {
        path
        for path in named
        if path.split("/")[0] in tops
        and "PROGRAM" not in path  # stands for each program's name
        and not {path.rstrip("/"), OF_A_CLASS.sub(".py", path)} & there
    }
    assert not gone


@pytest.mark.parametrize("page", tracked("*.md"))
def test_each_link_of_a_page_leads_somewhere(page: str) -> None:
    folder = (REPOSITORY / page).parent
    links = LINK.findall((REPOSITORY / page).read_text("utf-8"))
    assert not {link for link in links if not (folder / link.strip()).exists()}


def test_a_path_that_is_gone_would_be_seen() -> None:
    assert (
        PATH.findall("see `enclave_jobs/leases.py` and `enclave/programs/`")
        == [
            "enclave_jobs/leases.py",
            "enclave/programs/",
        ]
        and not {"enclave_jobs/leases.py"} & known()
    )
