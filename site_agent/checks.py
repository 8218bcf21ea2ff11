"""`check`: what can stand in the way at this site, one row each, and what to do about every red one."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from msgspec import Struct

from enclave.errors import Refusal, explain
from site_agent import AGENT_VERSION
from site_agent.datasets.catalogue import Catalogue
from site_agent.enrolment import connect, heartbeat, needs_platform
from site_agent.state import State
from site_agent.words import counted, readable_bytes, readable_seconds

LEAST_DISK = 5 << 30
LEAST_MEMORY = 4 << 30
WORST_SKEW = 5.0
LAST_SKEW = 10.0
"""Seconds: from here on the coordinator refuses our tokens (federation/sites/authentication.py, LEEWAY)."""
CERTIFICATE_DAYS = 14
PACKAGES = ("torch", "transformers", "peft", "cryptography", "httpx", "pyarrow", "msgspec")

Outcome = Literal["pass", "warn", "fail"]


class Check(Struct, frozen=True):
    """One row: what was looked at, how it is, what was found, and what to do (empty where it is well)."""

    name: str
    outcome: Outcome
    found: str
    hint: str = ""


def run_checks(state: State) -> list[Check]:
    """Every check, in the order in which one would mend things. Never raises a refusal."""
    checks: list[Check] = []
    for look in (_enrolled, _files, _network, _coordinator, _machine, _tee, _datasets, _versions):
        try:
            checks.extend(look(state))
        except Refusal as refusal:
            words = explain(refusal.code, refusal.facts)
            checks.append(Check(look.__name__.strip("_"), "fail", words.message, words.hint))
    return checks


def _enrolled(state: State) -> Iterator[Check]:
    config = state.config
    yield Check("enrolment", "pass", f'site {config.site}, "{config.name}", with {config.coordinator}')


def _files(state: State) -> Iterator[Check]:
    open_to_others = [
        path.name
        for path in (state.folder, state.folder / "site.key", state.folder / "dataset.key", state.platform)
        if path.exists() and path.stat().st_mode & 0o077
    ]
    if open_to_others:
        hint = f"Run: chmod -R go-rwx {state.folder}"
        yield Check("state folder", "fail", f"others may read {', '.join(open_to_others)}", hint)
    else:
        yield Check("state folder", "pass", f"{state.folder}, for its owner only")


def _network(state: State) -> Iterator[Check]:
    """Proxy, name and TLS, one after the other: the first red row is the one to mend."""
    parts = urlsplit(state.config.coordinator)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    proxy = None if proxy_bypass(host) else getproxies().get(parts.scheme)
    if proxy:
        # A proxy's address may hold a password; only its host is shown.
        yield Check("proxy", "pass", f"{urlsplit(proxy).hostname or 'set'} ({parts.scheme.upper()}_PROXY)")
        return
    yield Check("proxy", "pass", "none; direct connection")
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        hint = "Ask your network team whether this machine's DNS knows the name, or set HTTPS_PROXY."
        yield Check("name", "fail", f"{host} has no address here", hint)
        return
    yield Check("name", "pass", f"{host} is {', '.join(sorted(map(str, addresses))[:3])}")
    if parts.scheme == "https":
        yield _tls(host, port, state.config.ca_bundle)
    else:
        outcome: Outcome = "warn" if state.config.insecure_http else "pass"
        hint = "Use https:// for anything but a trial." if state.config.insecure_http else ""
        yield Check("TLS", outcome, "none (plain HTTP)", hint)


def _tls(host: str, port: int, ca_bundle: str | None) -> Check:
    try:
        context = ssl.create_default_context(cafile=ca_bundle)
        with (
            socket.create_connection((host, port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            certificate = secure.getpeercert() or {}
            spoken = secure.version()
    except ssl.SSLError as error:
        hint = "If your proxy opens TLS, enrol with --ca-bundle FILE and its certificate."
        return Check(
            "TLS", "fail", f"not trusted: {getattr(error, 'verify_message', '') or error.reason}", hint
        )
    except OSError as error:
        hint = f"Ask your network team to allow outgoing connections to {host}, port {port}."
        return Check("TLS", "fail", f"no connection: {error.strerror or error}", hint)
    issuer = dict(pair[0] for pair in certificate.get("issuer", ()) if pair)  # type: ignore[misc]
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / 86400
    by = issuer.get("organizationName") or issuer.get("commonName", "?")
    found = f"{spoken}, by {by}, {days:.0f} days left"
    if days < CERTIFICATE_DAYS:
        return Check("TLS", "warn", found, "Tell the operator that the certificate ends soon.")
    return Check("TLS", "pass", found)


def _coordinator(state: State) -> Iterator[Check]:
    with_answer = connect(state)
    try:
        started = time.time()
        server_time, standing = heartbeat(with_answer, state)
        took = time.time() - started
    except Refusal as refusal:
        words = explain(refusal.code, refusal.facts)
        yield Check("coordinator", "fail", words.message, words.hint)
        if refusal.code == "auth.clock" and isinstance(refusal.facts.get("server_time"), int):
            yield _skew(time.time() - float(refusal.facts["server_time"] or 0))
        return
    finally:
        with_answer.close()
    yield Check("coordinator", "pass", f"answers in {readable_seconds(took)}; this site is {standing} there")
    # The answer's clock has whole seconds and was read somewhere within the request.
    yield _skew(max(0.0, abs(started + took / 2 - server_time - 0.5) - took / 2 - 0.5))


def _skew(seconds: float) -> Check:
    found = f"{abs(seconds):.0f} s apart from the coordinator's"
    if abs(seconds) <= WORST_SKEW:
        return Check("clock", "pass", found)
    hint = "Switch time synchronisation on: timedatectl set-ntp true"
    return Check("clock", "warn" if abs(seconds) <= LAST_SKEW else "fail", found, hint)


def _machine(state: State) -> Iterator[Check]:
    free = shutil.disk_usage(state.folder).free
    hint = f"Make room, or move the state folder; {readable_bytes(LEAST_DISK)} are enough for most runs."
    yield Check("disk", *_enough(free, LEAST_DISK, f"{readable_bytes(free)} free", hint))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    hint = f"Training the small models needs {readable_bytes(LEAST_MEMORY)}; larger ones need more."
    yield Check("memory", *_enough(memory, LEAST_MEMORY, f"{readable_bytes(memory)} in this machine", hint))
    yield Check("processors", "pass", counted(len(os.sched_getaffinity(0)), "core"))


def _enough(there: int, least: int, found: str, hint: str) -> tuple[Outcome, str, str]:
    return ("pass", found, "") if there >= least else ("fail", found, hint)


def _tee(state: State) -> Iterator[Check]:
    """What hardware is here, against what the agent is set up for."""
    runtime = state.config.runtime
    flags = _cpu_flags()
    sgx = [path for path in ("/dev/sgx_enclave", "/dev/sgx/enclave") if Path(path).exists()]
    tdx = Path("/sys/kernel/config/tsm/report").is_dir() and "tdx_guest" in flags
    present = [f"SGX ({path})" for path in sgx] + (["TDX guest"] if tdx else [])
    if "sgx" in flags and not sgx:
        present.append("SGX in the processor, but no driver")
    found = f"runtime {runtime}; hardware here: {', '.join(present) or 'none'}"
    if needs_platform(runtime):
        ready = (state.platform / "pck-chain.pem").exists()
        hint = "Development evidence protects nothing against this machine's own administrators."
        yield Check("TEE", "warn" if ready else "fail", found, hint if ready else "Enrol this machine anew.")
        return
    missing = (runtime == "sgx" and not sgx) or (runtime == "tdx" and not tdx)
    hint = {
        "sgx": "Switch SGX on in the firmware, load the kernel's SGX driver, start aesmd.",
        "tdx": "Run the agent inside the trust domain, on a kernel with configfs-tsm.",
    }[runtime]
    yield Check("TEE", "fail" if missing else "pass", found, hint if missing else "")


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def _datasets(state: State) -> Iterator[Check]:
    catalogue = Catalogue(state)
    datasets = catalogue.all()
    for dataset in datasets:
        catalogue.verify(dataset)
    waiting = [dataset.name for dataset in datasets if not dataset.id]
    found = f"{counted(len(datasets), 'dataset')}, unchanged on the disk"
    if waiting:
        hint = f"Run: python -m site_agent dataset publish {waiting[0]!r}"
        yield Check("datasets", "warn", f"{found}; not published: {', '.join(waiting)}", hint)
    else:
        yield Check("datasets", "pass", found)


def _versions(state: State) -> Iterator[Check]:
    missing, found = [], [f"site agent {AGENT_VERSION}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        hint = "Run: python -m pip install -r requirements-site.txt"
        yield Check("versions", "fail", f"missing: {', '.join(missing)}", hint)
    else:
        yield Check("versions", "pass", ", ".join(found))
