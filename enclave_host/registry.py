"""Ask a container registry for the digest of an image. Outside every trust boundary; nothing is believed.

OCI Distribution Specification 1.1, "Pulling manifests"; tokens as in Docker's "Registry authentication".
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

import httpx

from contracts.refusal import Refusal
from outgoing.client import client_for
from outgoing.faults import in_plain_words
from outgoing.tls import tls_context

DOCKER_HUB = "registry-1.docker.io"
MAX_MANIFEST = 4 * 1024 * 1024  # what the specification asks registries to take at most
KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
LOCAL = re.compile(r"(localhost|127\.0\.0\.1)(:\d+)?")


class Image(NamedTuple):
    """An image's registry (host, with port), its name there, and its tag."""

    registry: str
    name: str
    tag: str


def parse(image: str) -> Image:
    """As Docker reads it: the first part is a registry where it has a dot or a port, or is localhost."""
    path, _, tag = image.rpartition(":")
    first, _, rest = path.partition("/")
    if rest and (first == "localhost" or "." in first or ":" in first):
        return Image(first, rest, tag)
    return Image(DOCKER_HUB, path if rest else f"library/{path}", tag)


def digest_of(image: str) -> str:
    """`sha256:…` over the bytes of the image's manifest (of all platforms), computed here.

    Raises: `images.unreachable`, which says what the registry answered, or how far the way went.
    """
    at = parse(image)
    base = f"{'http' if LOCAL.fullmatch(at.registry) else 'https'}://{at.registry}"
    try:
        with client_for(base, tls_context(), timeout=20.0) as client:
            address = f"{base}/v2/{at.name}/manifests/{at.tag}"
            headers = {"Accept": ", ".join(KINDS)}
            answer = client.get(address, headers=headers)
            if answer.status_code == 401:
                headers["Authorization"] = f"Bearer {_token(answer.headers.get('WWW-Authenticate', ''))}"
                answer = client.get(address, headers=headers)
    except httpx.TransportError as error:
        raise _refusal(image, in_plain_words(error)) from error
    except httpx.InvalidURL as error:
        raise _refusal(image, "that is no address") from error
    if answer.status_code != 200:
        raise _refusal(image, f"it answered {answer.status_code}")
    if len(answer.content) > MAX_MANIFEST or answer.headers.get("Content-Type", "") not in KINDS:
        raise _refusal(image, "its answer is no manifest")
    digest = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
    if answer.headers.get("Docker-Content-Digest", digest) != digest:
        raise _refusal(image, "its answer has not the digest that it names")
    return digest


def digest_of_file(address: str) -> str:
    """`sha256:…` over the bytes at this address.

    Raises: `images.unreachable`.
    """
    try:
        with client_for(address, tls_context(), timeout=20.0) as client:
            answer = client.get(address)
    except httpx.TransportError as error:
        raise _refusal(address, in_plain_words(error)) from error
    if answer.status_code != 200 or not 0 < len(answer.content) <= MAX_MANIFEST:
        raise _refusal(address, f"it answered {answer.status_code}, {len(answer.content)} bytes")
    return f"sha256:{hashlib.sha256(answer.content).hexdigest()}"


def _token(challenge: str) -> str:
    """An anonymous token that may pull, from where the registry sends us; "" where it gives none."""
    words = dict(re.findall(r'(realm|service|scope)="([^"]*)"', challenge))
    realm = words.pop("realm", "")
    if not realm.startswith("https://") and not LOCAL.match(realm.removeprefix("http://")):
        return ""
    with client_for(realm, tls_context(), timeout=20.0) as client:
        answer = client.get(realm, params=words)
    try:
        said = answer.json()
        return str(said.get("token") or said.get("access_token") or "")
    except (ValueError, AttributeError):
        return ""


def _refusal(image: str, fault: str) -> Refusal:
    registry = httpx.URL(image).host if image.startswith("https:") else parse(image).registry
    return Refusal("images.unreachable", registry=registry, image=image, fault=fault)
