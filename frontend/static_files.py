"""Scripts and style sheets, sent whole also after an upgrade in place."""

from __future__ import annotations

import os

from django.http import HttpRequest, HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile


class StaticFiles(WhiteNoiseMiddleware):
    """WhiteNoise looks at each file once, at the start, and keeps its length. A script that was replaced
    since would be cut off there, an "Unexpected end of input": such a file is looked at again."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        known = self.files.get(request.path_info)
        if isinstance(known, StaticFile) and _replaced(known):
            self.add_file_to_dictionary(request.path_info, _path(known))
        response: HttpResponseBase = super().__call__(request)
        return response


def _path(file: StaticFile) -> str:
    """Where it lies, not compressed."""
    found: str = next(p for _, p, headers in file.alternatives if "Content-Encoding" not in dict(headers))
    return found


def _replaced(file: StaticFile) -> bool:
    """Whether WhiteNoise would give the file another ETag now. One that is gone is for WhiteNoise to miss."""
    try:
        now = os.stat(_path(file))  # noqa: PTH116  a string, at every request
    except OSError:
        return False
    etag: str = file.etag
    return etag != f'"{int(now.st_mtime):x}-{now.st_size:x}"'
