"""What an agent is installed from, for whoever asks: a machine that is to become a hospital's has no account.

None of it is secret, and none is believed for coming from here (frontend/startup_kit.py).
"""

from __future__ import annotations

from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from frontend import startup_kit


def install(request: HttpRequest) -> HttpResponse:
    """How it is verified, and what there is."""
    folder = startup_kit.wheelhouse()
    names = sorted(startup_kit.files(folder)) if folder is not None else []
    context = {"names": names, "verified": startup_kit.verified("install")}
    return render(request, "frontend/install/install.html", context)


def file(request: HttpRequest, name: str) -> HttpResponseBase:
    """One file of the wheelhouse; only those that its signed list names."""
    folder = startup_kit.wheelhouse()
    if folder is None or name not in startup_kit.files(folder) or not (folder / name).is_file():
        raise Http404
    return FileResponse((folder / name).open("rb"), as_attachment=True, filename=name)
