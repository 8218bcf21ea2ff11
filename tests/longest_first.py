"""A pytest plugin: files that take long come first, so that no worker is left alone with one at the end.

How long a file may take it says itself: its tests' `timeout`, or that they are `slow`.
"""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    usual = float(config.getini("timeout") or 0)
    patience: dict[object, float] = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        own = float(mark.args[0]) if mark is not None else usual
        own += item.get_closest_marker("slow") is not None
        patience[item.path] = max(patience.get(item.path, 0.0), own)
    # Stable: within a file, and among files of one kind, the order stays.
    items.sort(key=lambda item: -patience[item.path])
