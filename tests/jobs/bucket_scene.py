"""A bucket in place of the blob folder, for tests of one process."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from federation.settings import bucket_storage
from tests.support.object_storage import REGION, ObjectStorage, object_storage


@pytest.fixture(scope="module")
def storage() -> Iterator[ObjectStorage]:
    with object_storage() as running:
        yield running


@pytest.fixture
def bucket(storage: ObjectStorage, settings: Any, tmp_path: Any) -> Iterator[str]:
    """An empty bucket; its name. The blob folder is none, so nothing can go there."""
    name = f"sealed-{secrets.token_hex(4)}"
    storage.create(name)
    storage.seen.clear()
    settings.STORAGES = {**settings.STORAGES, **bucket_storage(storage.setting(name), REGION)}
    settings.STORAGE_FOR_SITES = storage.address
    settings.BLOB_DIR = tmp_path / "no-folder"
    yield name
    storage.lie = lambda _seen, status, body: (status, body)
    storage.away = False
    assert not settings.BLOB_DIR.exists()
