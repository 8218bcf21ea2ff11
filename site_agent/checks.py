"""`check`: what can stand in the way at this site, one row each, and what to do about every red one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from contracts.agents_api.sites import CheckResult
from contracts.refusal import Refusal
from error_catalogue import explain
from error_catalogue.last_resort import kept_for_us, refusal_of
from site_agent import AGENT_VERSION
from site_agent.check_rows import CheckRow
from site_agent.datasets.catalogue import Catalogue
from site_agent.enrolment import connect, heartbeat
from site_agent.files import replacing
from site_agent.formatting import counted, printable, readable_seconds
from site_agent.letters import letter, with_storage
from site_agent.machine_checks import gpu, machine
from site_agent.network_checks import host_and_port, network
from site_agent.state import State
from site_agent.storage_checks import storage
from site_agent.tee_checks import tee
from site_agent.transport import PASSING
from translations.spoken import ENGLISH, speaking

WORST_SKEW = 5.0
LAST_SKEW = 10.0
"""Seconds: from here on the coordinator refuses our tokens (federation/sites/authentication.py, LEEWAY)."""
LINE_HINT = (
    "Fix the first red row above. If there is none, a proxy or your network's sign-in page may have "
    "answered instead of the coordinator: give your network team the text below."
)
PACKAGES = ("torch", "transformers", "peft", "cryptography", "httpx", "pyarrow", "msgspec")


def run_checks(state: State, patience: float = 60.0, enclave: int = 0) -> list[CheckRow]:
    """Every check, in the order in which one would fix things. Never raises. A coordinator that does not
    answer is asked again for `patience` seconds, or not again where the network's own rows say why.
    `enclave` is how many bytes a study's enclave takes, where that is asked. The rows are in English: the
    hospital's page shows the same ones."""
    with speaking(ENGLISH):
        return _rows_of(state, patience, enclave)


def _rows_of(state: State, patience: float, enclave: int) -> list[CheckRow]:
    checks = list(_seen("enrolment", _enrolled, state))
    known = checks[-1].outcome != "fail"
    with with_storage(state.config.storage if known else None):
        checks.extend(_looked(state, patience, enclave, known))
    return checks


def _looked(state: State, patience: float, enclave: int, known: bool) -> list[CheckRow]:
    checks: list[CheckRow] = []
    for name, look in LOOKS:
        if known or name not in OF_THE_ENROLLED:
            checks.extend(_seen(name, partial(tee, enclave=enclave) if look is tee else look, state))
        if known and look is network:
            short = 0.0 if any(check.outcome == "fail" for check in checks) else patience
            checks.extend(_seen("coordinator", partial(_coordinator, patience=short), state))
    return checks


def _seen(name: str, look: Callable[[State], Iterator[CheckRow]], state: State) -> Iterator[CheckRow]:
    """The rows of `look`; where it cannot end, a red one says why."""
    try:
        yield from look(state)
    except Refusal as refusal:
        fault = refusal
    except OSError as error:
        fault = refusal_of(error)
    except Exception as error:
        fault = kept_for_us(error, state.folder)
    else:
        return
    words = explain(fault.code, fault.facts)
    yield CheckRow(name, "fail", words.message, words.hint)


def as_reported(checks: list[CheckRow]) -> list[CheckResult]:
    """The rows as the coordinator takes them in a heartbeat: printable, and of bounded length."""
    return [
        CheckResult(
            check.name,
            check.outcome,
            found=printable(check.found, 499),
            hint=printable(check.hint, 999),
            letter=check.letter[:2000],
        )
        for check in checks
    ]


def _enrolled(state: State) -> Iterator[CheckRow]:
    config = state.config
    yield CheckRow("enrolment", "pass", f'site {config.site}, "{config.name}", with {config.coordinator}')


def _files(state: State) -> Iterator[CheckRow]:
    with replacing(state.folder / ".check") as file:
        file.write(bytes(4096))
    (state.folder / ".check").unlink()
    if state.enrolled:
        _ = state.key, state.dataset_key
    open_to_others = [
        path.name
        for path in (state.folder, state.folder / "site.key", state.folder / "dataset.key", state.platform)
        if path.exists() and path.stat().st_mode & 0o077
    ]
    if open_to_others:
        hint = f"Run: chmod -R go-rwx {state.folder}"
        yield CheckRow("state folder", "fail", f"others may read {', '.join(open_to_others)}", hint)
    else:
        yield CheckRow("state folder", "pass", f"{state.folder}, for its owner only")


def _coordinator(state: State, patience: float) -> Iterator[CheckRow]:
    with_answer = connect(state, tell=lambda text: None)  # the row says it
    try:
        started = time.time()
        heard = heartbeat(with_answer, state, patience=patience)
        took = time.time() - started
    except Refusal as refusal:
        words = explain(refusal.code, refusal.facts)
        asked = ""
        if refusal.code in PASSING and patience:
            # No row before has named the cause: what lets a handshake pass may still stop a request.
            host, port = host_and_port(state.config.coordinator)
            wish = f"Please allow outgoing connections to {host}, port {port}, and POST requests on them."
            asked = letter(host, port, wish)
        hint = LINE_HINT if refusal.code in PASSING else words.hint  # no advice to run what is running
        yield CheckRow("coordinator", "fail", words.message, hint, asked)
        if refusal.code == "auth.clock" and isinstance(refusal.facts.get("server_time"), int):
            yield _skew(time.time() - float(refusal.facts["server_time"] or 0))
        return
    finally:
        with_answer.close()
    yield CheckRow(
        "coordinator",
        "pass",
        f"answers in {readable_seconds(took)}; this site is {printable(heard.state, 32)} there",
    )
    # The answer's clock has whole seconds and was read somewhere within the request.
    yield _skew(max(0.0, abs(started + took / 2 - heard.server_time - 0.5) - took / 2 - 0.5))


def _skew(seconds: float) -> CheckRow:
    found = f"{abs(seconds):.0f} s apart from the coordinator's"
    if abs(seconds) <= WORST_SKEW:
        return CheckRow("clock", "pass", found)
    hint = "Switch time synchronisation on: timedatectl set-ntp true"
    return CheckRow("clock", "warn" if abs(seconds) <= LAST_SKEW else "fail", found, hint)


def _datasets(state: State) -> Iterator[CheckRow]:
    catalogue = Catalogue(state)
    datasets = catalogue.all()
    for dataset in datasets:
        catalogue.verify(dataset)
    waiting = [dataset.name for dataset in datasets if not dataset.id]
    found = f"{counted(len(datasets), 'dataset')}, unchanged on the disk"
    if waiting:
        hint = f"Run: python -m site_agent dataset publish {waiting[0]!r}"
        yield CheckRow("datasets", "warn", f"{found}; not published: {', '.join(waiting)}", hint)
    else:
        yield CheckRow("datasets", "pass", found)


def _versions(state: State) -> Iterator[CheckRow]:
    missing, found = [], [f"site agent {AGENT_VERSION}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        hint = "Run: python -m pip install -r requirements-site.txt"
        yield CheckRow("versions", "fail", f"missing: {', '.join(missing)}", hint)
    else:
        yield CheckRow("versions", "pass", ", ".join(found))


LOOKS: tuple[tuple[str, Callable[[State], Iterator[CheckRow]]], ...] = (
    ("state folder", _files),
    ("network", network),
    ("storage", storage),
    ("machine", machine),
    ("GPU", gpu),
    ("TEE", tee),
    ("datasets", _datasets),
    ("versions", _versions),
)
"""In the order in which one would fix things; the coordinator itself is asked after `network`."""
OF_THE_ENROLLED = ("network", "storage")
"""What cannot be looked at before the agent knows its coordinator."""
