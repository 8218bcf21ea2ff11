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

SYSTEMD, PYTHON, CONTAINER = _("systemd service"), _("Python, by hand"), _("Container")


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
    install = (_("Verify and install"), verified("install"))
    proxied = _("Enrol and run: your proxy as above; for an authority of your own add --ca-bundle FILE")
    boxed = _("Enrol and run: with a proxy, put -e HTTPS_PROXY=http://… before the image's name")
    activated = ". ~/fedslice/agent/bin/activate\n"
    return [
        Way("systemd", SYSTEMD, [install, (proxied, activated + _text("service", words=words))]),
        Way("python", PYTHON, [install, (proxied, activated + _text("enrol", words=words))]),
        Way("container", CONTAINER, [(_("Verify and build"), verified("build")), (boxed, _boxed(words))]),
    ]


def installed(command: str) -> list[Way]:
    """The same where FedSlice is on the machine already: one block each."""
    words = command.removeprefix("python -m site_agent ")
    once = _("Enrol and run, in one")
    return [
        Way("python", PYTHON, [(once, _text("enrol", words=words))]),
        Way("systemd", SYSTEMD, [(once, _text("service", words=words))]),
        Way("container", CONTAINER, [(once, _boxed(words))]),
    ]


def _boxed(words: str) -> str:
    return _text("enrol_boxed", words=words) + " &&\n" + _text("run_boxed")


def verified(then: str) -> str:
    """The block that fetches and verifies all files, and `then` installs or builds from them."""
    url = settings.PUBLIC_URL
    plain = "" if url.startswith("https:") else ",http"  # a trial on one machine
    return _text("verified", url=url, plain=plain, then=_text(then))


def _text(name: str, **facts: str) -> str:
    return render_to_string(f"frontend/install/{name}.sh", facts).strip()
