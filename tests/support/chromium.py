"""The browser of the tests: Chromium's headless shell. It is the same engine without windows, tabs and
services, and takes less than half of the processor time. Where a system has no such shell, Chromium itself.
"""

from __future__ import annotations

import shutil

import pytest
from playwright.sync_api import Browser, Playwright


def launch(playwright: Playwright) -> Browser:
    """A browser, to be closed by the caller."""
    found = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if found is None:
        pytest.fail("Chromium is missing: run .ci/install-debian.sh")
    quiet = ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"]
    return playwright.chromium.launch(executable_path=found, args=quiet)
