"""A pytest plugin loaded before Django: tests keep their state in a folder of their own, never in var/."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

_state = Path(tempfile.mkdtemp(prefix="fedslice-tests-"))
atexit.register(shutil.rmtree, _state, ignore_errors=True)
os.environ["FEDSLICE_STATE"] = str(_state)
# What all workers of one run of the tests share lies with the first process; they inherit its environment.
os.environ.setdefault("FEDSLICE_TESTS_SHARED", str(_state))
# Tests decide these for themselves; a developer's shell must not.
for _name in (
    "URL",
    "DATABASE",
    "REDIS",
    "BLOBS",
    "STORAGE",
    "STORAGE_FOR_SITES",
    "SUPERVISOR",
    "RUNTIMES",
    "MAIL",
    "STATIC",
    "PROXIES",
    "SUPERVISOR_TLS",
):
    os.environ.pop(f"FEDSLICE_{_name}", None)
# Most tests are about something else than signing in; those about the second factor demand it themselves.
os.environ["FEDSLICE_SECOND_FACTOR"] = "none"
# Bytecode is kept, as where people run FedSlice: else each process compiles our modules, and each worker of
# the tests every test, once more.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Neither torch nor OpenBLAS may take both cores while browsers and workers wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """In the tests' own processes, and never outside of them, passwords are hashed fast. The real way takes
    half a second of a core, on purpose, and most tests make up people who never sign in."""
    from django.conf import settings

    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
