"""Names that were replaced do not come back, and a class that an enclave may load shares its name with no
other."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections import Counter

import pytest

from tests.packaging.test_docstrings import MEASURED, PACKAGES, trees
from tests.support.installation import REPOSITORY

HERE = "tests/packaging/test_words.py"
REPLACED = {
    "AcceleratorChannel": "MaskedChannel",
    "Consent": "ReleaseApproval",
    "DEEDS": "ACTIONS (frontend/activity.py)",
    "HURRIED": "PROCEEDED_EARLY",
    "Judge": "Verifier",
    "Knock": "ClientHello",
    "Lived": "InstanceCount",
    "Lives": "SliceInstances",
    "Membership": "RunSession",
    "Outside": "OffloadedPlacement",
    "Shelf": "FeatureStore",
    "ServingOrder": "ServingSignature",
    "SplitWork": "SplitJobRunner",
    "Standing": "LatestRound",
    "Trip": "SharedInputGroup",
    "Turns": "ClientRounds",
    "Work": "JobRunner, LayerWork, Workload or another that says which",
    "deed": "action",
    "deeds": "actions",
    "hurried": "proceeds_early",
    "open_outside": "open_offloaded",
    "put_out": "offload",
    "MENDED_BY_ASKING": "FIXED_BY_ASKING",
    "_MENDED_BY_ASKING": "_FIXED_BY_ASKING",
    "settle_types": "warm_up_decoders",
    "MENDED_BY_NEW_INPUTS": "FIXED_BY_NEW_INPUTS",
    "sparing": "throttle",
    "to_step": "to_grain (a score's granularity; a step is the optimizer's, or the conductor's task)",
    "unkeep": "load_checkpoint",
    "verify_consent": "verify_release_approval",
    "verify_consents": "require_approved",
}
"""Names in code, and what took their place (docs/glossary.md)."""
OF_KEYS = (
    "contracts/sealed/", "contracts/course.py", "contracts/jobs.py", "contracts/manifest.py",
    "contracts/manifest_options.py", "enclave/programs/", "enclave_jobs/conductor/",
    "enclave_jobs/jobs/results.py",
    "federation/studies/", "manifest_summary/", "site_agent/methods/method_2/", "site_agent/weaknesses/",
)  # fmt: skip
"""Where a name may be of a share: a part of a state's key, held by a site. Of a whole it is a `fraction`."""
ANY = re.compile(rf"\b({'|'.join(REPLACED)})\b")
CODES = {
    "admission.too_many_lives": "admission.too_many_instances",
    "aggregation.lives": "aggregation.instances",
    "features.out_of_reach": "features.beyond_bound",
    "front.out_of_reach": "front.beyond_bound",
    "release.bad_order": "release.bad_approval",
    "round.other_life": "round.other_instance",
    "run.hurried": "run.proceeded_early",
}
OLD_ENGLISH = re.compile(r"\b(anew|mend|mends|mended|deeds?)\b", re.IGNORECASE)
HE = re.compile(r"\b(he|him|his|himself)\b", re.IGNORECASE)
AN_AUTHOR = re.compile(r"\bHe et al\b")


def tracked(*patterns: str) -> list[str]:
    found = subprocess.run(
        ["git", "ls-files", "--", *patterns], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return found.stdout.split()


def names_in(source: str) -> set[str]:
    """The identifiers of a source, not its words in strings and comments."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def test_replaced_names_do_not_come_back() -> None:
    found = [
        f"{path}: {name}; say {REPLACED[name]}"
        for path in tracked("*.py", ":!*/migrations/*")
        if ANY.search(source := (REPOSITORY / path).read_text("utf-8"))  # else nothing to take apart
        for name in sorted(names_in(source) & REPLACED.keys())
    ]
    assert not found, "\n".join(found)


def test_a_share_is_a_part_of_a_key_and_nothing_else() -> None:
    found = [
        path
        for path in tracked("*.py", ":!tests/*", ":!benchmarks/*", ":!*/migrations/*")
        if not path.startswith(OF_KEYS)
        and {"share", "shares"} & names_in((REPOSITORY / path).read_text("utf-8"))
    ]
    assert not found, f"say fraction: {found}"


def test_nor_do_replaced_codes_and_fields() -> None:
    texts = {
        path: (REPOSITORY / path).read_text("utf-8")
        for path in tracked(
            "*.py", "*.md", "*.html", "*.po", ":!CHANGELOG.md", f":!{HERE}", ":!*/migrations/*"
        )
    }
    found = [
        f"{p}: {code}; say {new}" for code, new in CODES.items() for p, text in texts.items() if code in text
    ]
    assert not found, "\n".join(found)


def test_nobody_is_he_in_texts_and_code() -> None:
    """But an author of that name, and people in invented notes."""
    invented = (
        ":!benchmarks/demo/*",
        ":!site_agent/synthetic*",
        ":!tests/site_agent/test_dataset_reading.py",
    )
    found = [
        f"{path}:{number}: {line.strip()[:90]}"
        for path in tracked("*.py", "*.html", "*.md", ":!CHANGELOG.md", f":!{HERE}", *invented)
        for number, line in enumerate((REPOSITORY / path).read_text("utf-8").splitlines(), 1)
        if HE.search(AN_AUTHOR.sub("", line)) and "href" not in line
    ]
    assert not found, "\n".join(found)


def test_words_that_few_readers_know_stay_away() -> None:
    found = [
        f"{path}: {match[0]}"
        for path in tracked("*.py", "*.html", "*.md", ":!CHANGELOG.md", ":!docs/decisions/*", f":!{HERE}")
        for match in OLD_ENGLISH.finditer((REPOSITORY / path).read_text("utf-8"))
    ]
    assert not found, "\n".join(found)


def test_of_the_classes_that_an_enclave_may_load_each_name_stands_for_one() -> None:
    """But for the two programs' main classes of a task, of which a process loads one
    (attestation/confidential_gpu is loaded by none)."""
    names = Counter(
        node.name
        for path, tree in trees(*MEASURED)
        if not path.startswith("attestation/confidential_gpu/")
        for node in tree.body
        if type(node).__name__ == "ClassDef" and not node.name.startswith("_")
    )
    assert [name for name, times in names.items() if times > 1] == []


TOLD = re.compile(r"(^|_)told(_|$)")


def test_no_name_is_told() -> None:
    """It may say what: facts, an answer, a text, what was reported. A test's name is a sentence."""
    found = [
        f"{path}: {name}"
        for path in tracked("*.py", ":!*/migrations/*")
        if "told" in (source := (REPOSITORY / path).read_text("utf-8"))
        for name in sorted(names_in(source))
        if TOLD.search(name) and not (path.startswith("tests/") and name.startswith("test_"))
    ]
    assert not found, "\n".join(found)


ON_TWO_SIDES = {
    "Admission", "Approval", "ApprovalKey", "Checkpoint", "Collateral", "CollateralFloor",
    "Contribution", "Dataset", "JobRunner", "Method", "PlatformKind", "Release",
    "RunSession", "Site", "Sweep",
}  # fmt: skip
"""One thing each, as a row and as what crosses the wire, or as an interface and what fulfils it."""
OF_DJANGO = {"Command", "Meta"}


def test_a_class_name_stands_for_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for path, tree in trees(*PACKAGES, "error_catalogue", "translations"):
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path)
    several = {name: paths for name, paths in places.items() if len(paths) > 1}
    assert several.keys() - OF_DJANGO - ON_TWO_SIDES == set(), several
    assert several.keys() >= ON_TWO_SIDES, "an exception that nothing needs any more"


def test_no_file_imports_what_another_keeps_for_itself() -> None:
    found = [
        f"{path}: {name.name} of {node.module}"
        for path, tree in trees(*PACKAGES, "error_catalogue", "translations", "tests", "benchmarks")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for name in node.names
        if re.match(r"_[a-z]", name.name)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "found"), [("class Judge: ...", {"Judge"}), ('"""Judge it."""', set()), ("# a deed", set())]
)
def test_only_names_are_looked_at(source: str, found: set[str]) -> None:
    assert names_in(source) & REPLACED.keys() == found
