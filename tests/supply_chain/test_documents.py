"""What the documents name exists, and each attack that is kept stands in the lists of attacks."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.installation import REPOSITORY

PACKAGES = (
    "attestation|benchmarks|contracts|enclave|enclave_host|enclave_jobs|error_catalogue|federation|frontend|"
    "outgoing|privacy_accounting|site_agent|tests|translations|transparency_log"
)
ATTACKS = REPOSITORY / "tests" / "attacks"


def documents() -> list[Path]:
    return [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), ATTACKS / "README.md"]


def test_every_file_of_code_that_a_document_names_is_there() -> None:
    """A capital word in a path stands for something; a bare name of a test is that of any folder."""
    tests = {path.name for path in (REPOSITORY / "tests").rglob("*.py")}
    missing = []
    for document in documents():
        text = document.read_text()
        for path in re.findall(rf"(?<![\w/.])((?:{PACKAGES})/[\w/]+\.(?:py|md))", text):
            if not re.search("[A-Z]{3}", Path(path).stem.replace("README", "")):
                missing += [(document.name, path)] * (not (REPOSITORY / path).is_file())
        missing += [
            (document.name, name) for name in re.findall(r"\btest_\w+\.py", text) if name not in tests
        ]
    assert missing == []


def test_every_attack_stands_in_the_table_and_in_the_threat_model() -> None:
    attacks = {path.name for path in ATTACKS.glob("test_*.py")}
    for document in (ATTACKS / "README.md", REPOSITORY / "docs" / "threat-model.md"):
        assert attacks - set(re.findall(r"\btest_\w+\.py", document.read_text())) == set(), document.name


def test_every_promise_of_the_threat_model_names_a_test_that_tries_it() -> None:
    """Its paragraphs are those under "What holds this up"."""
    text = (REPOSITORY / "docs" / "threat-model.md").read_text()
    held = text.partition("## What holds this up\n")[2].partition("\n## ")[0]
    promises = re.split(r"\n- (?=\*\*)", "\n" + held.strip())[1:]
    assert len(promises) > 20
    untried = [promise.split("**")[1] for promise in promises if not re.search(r"\btest_\w+\.py", promise)]
    assert untried == []


def test_operations_lists_every_setting_that_the_coordinator_reads() -> None:
    read = set(re.findall(r"FEDSLICE_[A-Z_]+", (REPOSITORY / "federation" / "settings.py").read_text()))
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    section = page.split("## Settings")[1].split("\n## ")[0]
    assert read == set(re.findall(r"^\| `(FEDSLICE_[A-Z_]+)` \|", section, re.M))
