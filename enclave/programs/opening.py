"""How the aggregator opens a site's contribution, and what it checks before one number of it is used.

Runs inside the aggregator's enclave; what is sealed stands in contributions.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.round_kind import kind_of
from contracts.sealed.container import FileRef
from contracts.sealed.stream import Binding, unseal
from enclave.programs.contributions import START, Enclosed, shows_start, with_start
from enclave.programs.identity import Identity
from enclave.programs.mailbox import MAX_PLAINTEXT_BYTES, BoundedBuffer, Mailbox
from enclave.programs.peer import AGGREGATOR, Peer
from enclave.programs.template import learn
from enclave.training.metrics import Scores
from enclave.training.tensors import State, from_bytes

START_TOLERANCE = 1e-5
"""Processors may differ in the last bits of the initial parameters that they draw from one seed."""


class Contribution(NamedTuple):
    """An opened and checked contribution of one site; `start` is what it says that it began with, where it
    has to."""

    sealed: FileRef
    enclosed: Enclosed
    state: State
    start: State | None = None


def open_contribution(
    identity: Identity,
    mailbox: Mailbox,
    *,
    site: str,
    sha256: str,
    round: int,
    instances: Callable[[], tuple[Peer, ...]],
    previous: str,
    template: State | None,
    start: State | None,
) -> Contribution:
    """Inside the aggregator: open `in/<sha256>` as `site`'s contribution to `round`.

    `instances` tells the site's admitted client slices, one of which must have sealed it; `previous` is the
    hash of the receipt that it must continue; `template` has the tensors that it must hold, and `start` is
    what the round begins with: None if nobody has shown them yet.

    Raises: `mailbox.*` (the host's fault), `admission.not_admitted`, or `round.bad_contribution`, whose
    facts name the site and, as `cause`, the code of what is wrong.
    """
    try:
        plain, size = _open(identity, mailbox, site, sha256, round, instances())
        rows = identity.manifest.site(site).dataset.rows
        enclosed, state, shown = _read(plain, identity.manifest, rows, round, previous, template)
        if shown is not None and start is not None:
            _compare_starts(shown, start)
    except Refusal as refusal:
        passing = refusal.code.startswith("mailbox.") or refusal.code == "admission.not_admitted"
        if passing and refusal.code != "mailbox.plaintext_too_large":
            raise
        facts = {**refusal.facts, "site": site, "round": round, "cause": refusal.code}
        raise Refusal("round.bad_contribution", **facts) from refusal
    return Contribution(FileRef(sha256, size), enclosed, state, shown)


def _open(
    identity: Identity, mailbox: Mailbox, site: str, sha256: str, round: int, instances: tuple[Peer, ...]
) -> tuple[bytes, int]:
    binding = Binding(identity.manifest_hash, round, kind_of(identity.manifest, round), site)
    for instance in instances:
        plain = BoundedBuffer(MAX_PLAINTEXT_BYTES)
        with mailbox.opened(sha256) as file:
            try:
                opened = unseal(
                    file,
                    plain,
                    binding=binding,
                    recipient=AGGREGATOR,
                    key=identity.hpke,
                    sender_key=instance.signing_key,
                )
                if opened.sha256 != sha256:
                    raise Refusal("mailbox.hash_mismatch", sha256=sha256)
                return plain.getvalue(), opened.bytes
            except Refusal as refusal:
                if refusal.code != "sealing.refused" or instance is instances[-1]:
                    raise
    raise Refusal("admission.not_admitted", peer=site)


def _read(
    plain: bytes, manifest: Manifest, rows: int, round: int, previous: str, template: State | None
) -> tuple[Enclosed, State, State | None]:
    """`rows` is how many the manifest gives the site, to train on and to evaluate on."""
    trains = kind_of(manifest, round) == "update"
    if not trains:
        template = {}
    template = learn(plain, manifest) if template is None else template
    shows = trains and shows_start(manifest, previous)
    state, metadata = from_bytes(plain, with_start(template, template) if shows else template)
    try:
        enclosed = msgspec.convert(metadata, Enclosed)
    except msgspec.ValidationError as error:
        raise Refusal("round.not_a_contribution") from error
    tables = manifest.publishes_tables(round)
    if manifest.coded:
        from enclave.programs.coded_checks import check_coded

        check_coded(enclosed.scores, manifest, tables=tables)
    else:
        check(enclosed.scores, len(manifest.model.labels), tables=tables)
    if enclosed.samples + enclosed.scores.rows > rows:
        raise Refusal("round.too_many_rows", claimed=enclosed.samples + enclosed.scores.rows, rows=rows)
    if trains != (enclosed.samples > 0):
        raise Refusal("round.not_a_contribution")
    if enclosed.previous != previous:
        raise Refusal("round.continues_another", round=round)
    if not shows:
        return enclosed, state, None
    return (
        enclosed,
        {name: state[name] for name in template},
        {name: state[START + name].copy() for name in template},  # not all that it lies in
    )


def _compare_starts(shown: State, start: State) -> None:
    if any(not np.allclose(shown[name], start[name], rtol=0, atol=START_TOLERANCE) for name in start):
        raise Refusal("round.another_start")


def check(scores: Scores, labels: int, *, tables: bool = False) -> None:
    """Refuse (`metrics.mismatch`) scores of another party that contradict themselves or this run's labels
    (`labels` = 0: a causal LM), or have not what `tables` are made of.

    Raises: `metrics.mismatch`.
    """
    consistent = (
        math.isfinite(scores.loss_sum) and scores.loss_sum >= 0 and scores.correct <= scores.predictions
    )
    if labels:
        square = len(scores.confusion) == labels and all(len(row) == labels for row in scores.confusion)
        consistent = (
            consistent
            and square
            and sum(map(sum, scores.confusion)) == scores.predictions == scores.rows
            and sum(scores.confusion[i][i] for i in range(labels)) == scores.correct
            and not scores.ended
        )
    else:
        consistent = consistent and not scores.confusion and scores.ended <= min(scores.rows, scores.correct)
    if not consistent or scores.exact > scores.ended or bool(scores.bins) != tables:
        raise Refusal("metrics.mismatch")
    if tables:
        from enclave.programs.tables import check_bins

        check_bins(scores)
