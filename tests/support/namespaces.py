"""Namespaces of Linux for a process of its own: disks that are full, networks that lead nowhere."""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import sys

import pytest

from tests.support.installation import REPOSITORY

OWN_MOUNTS = ("unshare", "--mount", "--propagation", "private")
PYTHON = shlex.quote(sys.executable)
"""For a script: where this repository lies may have a blank in its name."""
OWN_NETWORK = (*OWN_MOUNTS, "--net")


@functools.cache
def possible() -> bool:
    """Whether this account may make them."""
    try:
        return subprocess.run([*OWN_NETWORK, "true"], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def require() -> None:
    """Skip a test that needs them where they cannot be made."""
    if not possible():
        pytest.skip("this account may make no namespaces (unshare --mount --net)")


def shell(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `script` where its mounts are seen by nobody else."""
    require()
    return subprocess.run(
        [*OWN_MOUNTS, "bash", "-c", script], cwd=REPOSITORY, env={**os.environ, **variables},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
