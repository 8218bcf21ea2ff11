"""The list of what a program can load: read from the imports, up to date, and complete."""

import shutil

import pytest

from attestation.measured import PROGRAMS, TREE, modules_of
from enclave_host import closure, tcb_page
from enclave_host.closure import lines_of_code, outside, reading_order

STALE = "run `make closure` and review what changed"


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_list_in_the_repository_is_what_the_sources_import(program):
    assert list(modules_of(program)) == closure.closure(program), STALE


@pytest.fixture
def tree(tmp_path):
    """A small program that imports in every way."""
    files = {
        "enclave/__init__.py": "",
        "enclave/programs/__init__.py": "import contracts.base\n",
        "enclave/programs/aggregator.py": (
            "from typing import TYPE_CHECKING\nimport numpy as np\nimport contracts.deep.leaf\n"
            "from enclave import helper\nfrom contracts.names import NAME\n"
            "if TYPE_CHECKING:\n    from contracts.typed import T\n    import torch\n"
            "def later():\n    from contracts.late import f\n    import scipy.stats\n"
            "try:\n    import contracts.tried\nexcept ImportError:\n    pass\n"
        ),
        "enclave/helper.py": "import enclave.programs.aggregator\n",
        "enclave/unused.py": "",
        "contracts/__init__.py": "",
        "contracts/base.py": "",
        "contracts/deep/__init__.py": "",
        "contracts/deep/leaf.py": "from contracts.names import NAME\n",
        "contracts/names.py": "NAME = 1\n",
        "contracts/typed.py": "",
        "contracts/late.py": "",
        "contracts/tried.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "enclave" / "measured").mkdir()
    return tmp_path


def test_it_follows_every_import_but_those_that_only_a_type_checker_reads(tree):
    assert closure.closure("aggregator", tree) == [
        "contracts/__init__.py",
        "contracts/base.py",
        "contracts/deep/__init__.py",
        "contracts/deep/leaf.py",
        "contracts/late.py",
        "contracts/names.py",
        "contracts/tried.py",
        "enclave/__init__.py",
        "enclave/helper.py",
        "enclave/programs/__init__.py",
        "enclave/programs/aggregator.py",
    ]
    assert outside("aggregator", tree) == {"numpy", "scipy"}


def test_the_reading_order_puts_what_is_imported_first(tree):
    order = reading_order("aggregator", tree)
    assert order[-1] == "enclave/programs/aggregator.py"
    assert order.index("contracts/names.py") < order.index("contracts/deep/leaf.py")
    assert sorted(order) == closure.closure("aggregator", tree)


def test_a_relative_import_is_not_followed_in_silence(tree):
    (tree / "enclave" / "helper.py").write_text("from . import unused\n")
    with pytest.raises(ValueError, match="relative imports"):
        closure.closure("aggregator", tree)


def test_a_new_import_makes_the_list_stale_until_it_is_written(tree, capsys):
    arguments = ["aggregator", "--tree", str(tree)]
    assert closure.main(arguments) == 1
    assert closure.main([*arguments, "--write"]) == 0
    assert closure.main(arguments) == 0
    with (tree / "enclave" / "helper.py").open("a") as file:
        file.write("def f():\n    import enclave.unused\n")
    assert closure.main(arguments) == 1
    assert "enclave/measured/aggregator.modules" in capsys.readouterr().err


def test_lines_of_code_are_counted_without_blanks_comments_and_docstrings():
    text = '''"""A module.

With two paragraphs.
"""

# why
LIMIT = 3  # bytes
"""What LIMIT is."""


def f(
    a,
):
    """One line."""
    return """two
lines"""
'''
    assert lines_of_code(text) == 6


def test_the_auditors_page_names_every_file_and_package_as_they_are():
    assert tcb_page.main([]) == 0, "run `make closure`"


def test_the_auditors_page_is_stale_after_a_new_import_or_package(tmp_path, capsys):
    for folder in ("contracts", "attestation", "enclave", "kernels"):
        shutil.copytree(TREE / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "docs").mkdir()
    arguments = ["--tree", str(tmp_path)]
    lock = tmp_path / "enclave" / "measured" / "aggregator.packages"
    module = tmp_path / "enclave" / "programs" / "aggregator.py"
    for file, more in (
        (lock, f"more==1 --hash=sha256:{'0' * 64}\n"),
        (module, "import enclave.programs.tail_rounds\n"),
    ):
        assert tcb_page.main([*arguments, "--write"]) == 0
        assert tcb_page.main(arguments) == 0
        with file.open("a") as target:
            target.write(more)
        assert tcb_page.main(arguments) == 1
    assert "docs/trusted-computing-base.md" in capsys.readouterr().err
