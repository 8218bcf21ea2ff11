"""The tool of the catalogues, as `make messages` runs it."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from tests.support.installation import REPOSITORY


@pytest.fixture(scope="session")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("messages", REPOSITORY / ".ci" / "messages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
