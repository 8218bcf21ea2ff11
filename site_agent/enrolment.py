"""Enrolment: the site makes its keys, uses the one-time token, and keeps what it is told. Safe to repeat."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import msgspec

from attestation.development import create_platform, install_platform
from contracts.agents_api.sites import (
    ENROL,
    HEARTBEAT,
    CheckResult,
    EnrolBody,
    HeartbeatAnswer,
    HeartbeatBody,
)
from contracts.fingerprint import typed_fingerprint
from contracts.instance import instance_of
from contracts.refusal import Refusal
from site_agent import AGENT_VERSION
from site_agent.addresses import base_url
from site_agent.approval_key import Development, read_key_file
from site_agent.formatting import printable
from site_agent.state import Config, Runtime, State
from site_agent.storage import Storage
from site_agent.transport import Coordinator
from site_agent.witness import LogWitness

ENROLMENT_PATIENCE = 15.0
"""Seconds: whoever enrols a hospital waits at the terminal, and can give the command again."""


def connect(state: State, **options: object) -> Coordinator:
    """The line to the coordinator that this state folder is enrolled with, as this site."""
    config = state.config
    ways = {"ca_bundle": config.ca_bundle, "insecure_http": config.insecure_http, **options}
    coordinator = Coordinator(
        config.coordinator,
        (config.site, state.key, instance_of(state.folder, socket.gethostname())),
        **ways,  # type: ignore[arg-type]
    )
    if config.storage is not None:
        coordinator.storage = Storage(config.storage, **ways)  # type: ignore[arg-type]
    return coordinator


def enrol(
    state: State,
    address: str,
    token: str,
    *,
    approval_file: Path | None = None,
    name: str | None = None,
    runtime: Runtime = "development",
    ca_bundle: Path | None = None,
    insecure_http: bool = False,
    release_key: str | None = None,
    log_key: str | None = None,
) -> tuple[Config, bool]:
    """Enrol this state folder. Returns its configuration, and whether it was enrolled just now.

    1. Where it is enrolled with this coordinator already, nothing happens (the token stays unused).
    2. The agent's key is made before the token is used: whatever fails later, the same command can be given
       again. The approval key, or its public half, is in `approval_file` already (else in the state folder).
    3. `log_key` is the fingerprint of the key of the coordinator's log, which must come with it.
    4. `release_key` is the fingerprint of the project's release key, from outside the coordinator; hardware
       runtimes need one. It can be given later, and is then pinned for good.
    5. `name` changes only how the agent calls the site here; the hospital's name is given in the browser.

    Raises: `agent.enrolled_elsewhere`, `fingerprint.malformed`, `log.key_not_pinned`, `log.other_key`,
    `release_statement.key_not_pinned`, `approval_key.development`, an `enrolment.` code, or as
    `read_key_file` or `Coordinator`.
    """
    pinned = {
        name: typed_fingerprint(typed)
        for name, typed in (("release_key", release_key), ("log_key", log_key))
        if typed is not None
    }
    coordinator_address = base_url(address, insecure_http=insecure_http)
    if state.enrolled:
        config = state.config
        if config.coordinator != coordinator_address:
            raise Refusal("agent.enrolled_elsewhere", coordinator=config.coordinator, name=config.name)
        for name, value in pinned.items():
            if getattr(config, name) not in (None, value):
                raise Refusal("enrolment.key_pinned", pinned=getattr(config, name))
        state.save(msgspec.structs.replace(config, **pinned))
        _finish(state)
        return state.config, False
    if "log_key" not in pinned:
        raise Refusal("log.key_not_pinned")
    if "release_key" not in pinned and not needs_platform(runtime):
        raise Refusal("release_statement.key_not_pinned")
    approval_file = approval_file or state.approval_file
    held = read_key_file(approval_file)
    development_key = isinstance(held, Development)
    if development_key and not needs_platform(runtime):
        raise Refusal("approval_key.development", runtime=runtime)
    bundle = str(ca_bundle.expanduser().resolve()) if ca_bundle else None
    coordinator = Coordinator(coordinator_address, ca_bundle=bundle, insecure_http=insecure_http)
    with contextlib.closing(coordinator):
        body = EnrolBody(
            token=token,
            public_key=state.key.public,
            approval_key=held.public,
            agent_version=AGENT_VERSION,
            runtime=runtime,
            development_key=development_key,
            platform_key_pem=create_platform(state.platform).decode() if needs_platform(runtime) else None,
        )
        answer = coordinator.ask(ENROL, body, patience=ENROLMENT_PATIENCE)
    if needs_platform(runtime):
        if answer.pck_chain is None:
            raise Refusal("agent.bad_answer", fault="it certifies no platform")
        install_platform(state.platform, answer.pck_chain)
    config = Config(
        coordinator=coordinator_address,
        site=answer.site,
        name=printable(name or answer.name or answer.site, 200),
        approval_key=held.public,
        approval_file=None if approval_file == state.approval_file else str(approval_file.resolve()),
        runtime=runtime,
        ca_bundle=bundle,
        insecure_http=insecure_http,
        release_key=pinned.get("release_key"),
        log_key=pinned["log_key"],
    )
    state.save(config)
    _finish(state)
    return config, True


def _finish(state: State) -> None:
    """The first heartbeat proves to the coordinator that we hold the key; it makes the site active. Its log
    must be the one that was named."""
    with contextlib.closing(connect(state)) as coordinator:
        heartbeat(coordinator, state)
        if state.config.log_key is not None:
            LogWitness.of(state).look(coordinator)


def heartbeat(
    coordinator: Coordinator,
    state: State,
    checks: list[CheckResult] | None = None,
    *,
    patience: float = 60.0,
) -> HeartbeatAnswer:
    """Say that the agent is alive, and what its checks found if they were made."""
    body = HeartbeatBody(AGENT_VERSION, state.config.runtime, checks or [])
    return coordinator.ask(HEARTBEAT, body, patience=patience)


def say_goodbye(coordinator: Coordinator, state: State) -> None:
    """Say, in one try, that the agent ends: a move to another machine need not wait then."""
    coordinator.last_words(HEARTBEAT, HeartbeatBody(AGENT_VERSION, state.config.runtime, leaving=True))


def needs_platform(runtime: str) -> bool:
    """Whether evidence of this runtime comes from a development platform on this host."""
    return runtime in ("development", "direct")
