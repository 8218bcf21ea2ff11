"""Scripts are sent whole, whatever happens to the folder that they lie in."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from frontend.static_files import StaticFiles

NAME = "/static/page.js"


@pytest.fixture
def script(settings: Any, tmp_path: Path) -> Path:
    settings.STATIC_ROOT = str(tmp_path)
    settings.WHITENOISE_USE_FINDERS = False
    script = tmp_path / "page.js"
    script.write_text("function page() {}")
    return script


def body(served: StaticFiles, **headers: str) -> tuple[bytes, int]:
    """What is sent, and the length that is announced: a server cuts off what is beyond."""
    response = served(RequestFactory().get(NAME, headers=headers))
    return b"".join(response), int(response.headers["Content-Length"])


def served() -> StaticFiles:
    return StaticFiles(lambda request: HttpResponse(status=404))


def test_a_script_that_an_upgrade_has_made_longer_is_not_cut_off_at_its_old_length(script: Path) -> None:
    running = served()
    assert body(running) == (script.read_bytes(), 18)
    script.write_text("function page() { return 'longer than before' }")
    assert body(running) == (script.read_bytes(), 47)


def test_a_script_of_the_same_length_but_another_time_has_another_etag(script: Path) -> None:
    running = served()
    before = running(RequestFactory().get(NAME)).headers["ETag"]
    os.utime(script, (1, 1))
    again = running(RequestFactory().get(NAME, headers={"if-none-match": before}))
    assert again.status_code == 200 and again.headers["ETag"] != before


def test_its_compressed_double_is_looked_at_again_too(script: Path) -> None:
    script.write_text("// much of the same\n" * 50)
    double = script.with_name("page.js.gz")
    double.write_bytes(gzip.compress(script.read_bytes()))
    running = served()
    script.write_text("// much of another\n" * 60)
    double.write_bytes(gzip.compress(script.read_bytes()))
    sent, length = body(running, **{"accept-encoding": "gzip"})
    assert gzip.decompress(sent[:length]) == script.read_bytes()


def test_a_script_that_is_gone_takes_nothing_else_down(script: Path) -> None:
    running = served()
    script.unlink()
    with pytest.raises(FileNotFoundError):
        running(RequestFactory().get(NAME))
