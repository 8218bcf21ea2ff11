"""Letting tuned parameters out of a server enclave: only after the run, only by the manifest's rule, and only
when as many of its sites have signed for exactly these parameters as it demands.

The host brings the signatures; its word counts for nothing. What leaves is named in a signed statement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from io import BytesIO

from contracts.course import is_over
from contracts.refusal import Refusal
from contracts.release_calls import LetOut, ReleaseArguments
from contracts.releases import (
    EXPORT,
    KIND,
    SEALED,
    Released,
    require_approved,
    rule_of,
    sign_release,
)
from contracts.sealed.container import FileRef
from contracts.sealed.stream import Binding, seal
from enclave.programs.identity import Identity
from enclave.programs.mailbox import Mailbox
from enclave.programs.round_ledger import LatestRound
from enclave.training.tensors import State


def release(
    identity: Identity,
    mailbox: Mailbox,
    latest: LatestRound,
    arguments: ReleaseArguments,
    package: Callable[[State], bytes],
    *,
    require_named: Callable[[Iterable[str]], None],
) -> LetOut:
    """Put the package out, sealed to the sites that have signed or in clear as the rule says; the file, and
    the signed statement about it. It may be asked for again: the parameters and the approvals are the same.

    1. the manifest's rule lets parameters out 2. this enclave holds the run's parameters, and no round
    changes them any more 3. they are those after the receipt that the approvals name 4. every approval is
    signed by its site's key, and as many count as the manifest demands 5. enough sites name that receipt as
    the run's last: an approval does (`require_named` takes who has signed)

    Raises: `release.*` or `state.not_named`; then nothing has left.
    """
    manifest = identity.manifest
    rule = rule_of(manifest)
    receipt, state = latest.receipt, latest.state
    if receipt is None or not state:
        raise Refusal("release.no_state")
    if not is_over(manifest, receipt):
        raise Refusal("release.unfinished")
    if arguments.receipt != latest.hash:
        raise Refusal("release.wrong_receipt")
    require_approved(manifest, latest.hash, arguments.release_approvals, identity.approvals)
    require_named(arguments.release_approvals)
    packed = package(state)
    recipients = {
        site: given.hpke_key
        for site, given in sorted(arguments.release_approvals.items())
        if rule == SEALED and given.hpke_key is not None
    }
    filed = _put_out(identity, mailbox, receipt.round, packed, recipients, in_clear=rule == EXPORT)
    statement = Released(
        version=1,
        manifest=identity.manifest_hash,
        run=manifest.run,
        receipt=latest.hash,
        rule=rule,
        output=filed.sha256,
        bytes=filed.bytes,
        package=hashlib.sha256(packed).hexdigest(),
        approved_by=tuple(sorted(arguments.release_approvals)),
        recipients=tuple(recipients),
        program="split_server" if identity.program == "split_server" else "aggregator",
        measurement=identity.measurement,
        development=manifest.policy.root == "development",
        issued=identity.clock.now(),
    )
    return LetOut(filed, sign_release(statement, identity.signing))


def _put_out(
    identity: Identity,
    mailbox: Mailbox,
    round: int,
    packed: bytes,
    recipients: dict[str, str],
    *,
    in_clear: bool,
) -> FileRef:
    if in_clear:
        sha256 = hashlib.sha256(packed).hexdigest()
        return mailbox.outgoing(lambda file: FileRef(sha256, file.write(packed)))
    return mailbox.outgoing(
        lambda file: seal(
            BytesIO(packed),
            file,
            binding=Binding(identity.manifest_hash, round, KIND, identity.program),
            recipients=recipients,
            signer=identity.signing,
        )
    )
