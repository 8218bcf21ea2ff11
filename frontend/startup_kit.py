"""The start-up kit: from nothing to an agent that runs, as blocks to copy: Python, systemd, container.

The coordinator is an attacker (docs/threat-model.md): neither its page nor a hash on it proves anything. So
each block verifies what it fetched with a stock tool against a fingerprint that the reader has from elsewhere
and types in, and installs from those bytes alone, from no index.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

SUMS, SIGNATURE, KEY = "SHA256SUMS", "SHA256SUMS.sig", "release.pub"


@dataclass(frozen=True)
class Way:
    """One way to run the agent: its name and steps, each a heading and what is to be copied."""

    name: str
    title: str | Promise
    steps: list[tuple[str | Promise, str]]


def wheelhouse() -> Path | None:
    """The folder that the operator made with `make wheelhouse`; None where there is none that is whole."""
    folder = Path(settings.WHEELHOUSE)
    return folder if all((folder / name).is_file() for name in (SUMS, SIGNATURE, KEY)) else None


def files(folder: Path) -> set[str]:
    """What may be fetched: what the signed list names, the list, its signature and the key."""
    listed = {line[66:] for line in (folder / SUMS).read_text().splitlines()}
    return {name for name in listed if "/" not in name and name[:1] not in (".", "")} | {SUMS, SIGNATURE, KEY}


def ways(command: str) -> list[Way]:
    """The blocks for this enrolment command (`python -m site_agent enrol …`)."""
    words = command.removeprefix("python -m site_agent ")
    ready: list[tuple[str | Promise, str]] = [
        (_("Verify and install"), verified("install")),
        (_("Enrol: your proxy as above; for an authority of your own add --ca-bundle FILE"),
         _text("enrol", words=words)),
    ]  # fmt: skip
    boxed: list[tuple[str | Promise, str]] = [
        (_("Verify and build"), verified("build")),
        (_("Enrol: with a proxy, put -e HTTPS_PROXY=http://… before the image's name"),
         _text("enrol_boxed", words=words)),
        (_("Run it"), _text("run_boxed")),
    ]  # fmt: skip
    return [
        Way("systemd", _("systemd service"), [*ready, (_("Have systemd run it"), _text("service"))]),
        Way("python", _("Python, by hand"), [*ready, (_("Run it"), _text("run"))]),
        Way("container", _("Container"), boxed),
    ]


def verified(then: str) -> str:
    """The block that fetches and verifies all files, and `then` installs or builds from them."""
    url = settings.PUBLIC_URL
    plain = "" if url.startswith("https:") else ",http"  # a trial on one machine
    return _text("verified", url=url, plain=plain, then=_text(then))


def _text(name: str, **facts: str) -> str:
    return render_to_string(f"frontend/install/{name}.sh", facts).strip()
