"""The coordinator and one site of a Method 2 run together: what they can make without the other sites.

They run genuine split servers as often as they like, know the public base model, own the key of `accomplice`,
and keep all that a server has sealed. They do not own a TEE, nor the key of the honest site.
"""

from __future__ import annotations

import secrets
from io import BytesIO

import msgspec

from contracts.policy import SgxReference, TdxReference
from contracts.receipt_chain import parse_receipt
from contracts.receipts import Receipt, receipt_hash
from contracts.sealed.escrow import Escrow
from contracts.sealed.handback import HandedBack, hand_back
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.session import ClientHello, decode, encode
from contracts.sealed.shares import deposit, withdraw
from contracts.sealed.state import StateBinding, seal_state
from tests.programs.split_house import SplitRun
from tests.support.approvals import release_approval

HONEST, ACCOMPLICE = "anna", "berta"


class Forger:
    """Attacks one run of `SplitRun`."""

    def __init__(self, run: SplitRun) -> None:
        self.run = run
        self.shares = {site: HpkeKey.generate() for site in (HONEST, ACCOMPLICE)}

    def receipt(self, after: Receipt | None, round: int, **changes) -> Receipt:
        """A receipt that no enclave has made, for a round that follows `after`."""
        manifest = self.run.manifest
        made = Receipt(
            version=1,
            manifest=manifest.hash,
            run=manifest.run,
            round=round,
            roster="0" * 64,
            inputs=(),
            output=None,
            state=None,
            metrics={},
            previous="0" * 64 if after is None else receipt_hash(after),
            program="split_server",
            measurement=measurement_of(manifest.policy.references[0]),
            development=True,
            issued=manifest.minimum_time,
        )
        return msgspec.structs.replace(made, **changes)

    def state(self, draft: Receipt, threshold: int, sites=(ACCOMPLICE,)) -> tuple[str, Escrow, Receipt]:
        """A made-up state (all parameters are 3) under a key of our own, which `threshold` of the shares of
        `sites` make again: its file's name, the escrow, and the receipt that an enclave will find in it."""
        from enclave.programs.tail import load_tail
        from enclave.training.tensors import to_bytes

        run = self.run
        learner = load_tail(run.manifest, run.consortium.house.model)
        parameters = {name: tensor * 0 + 3 for name, tensor in learner.initial.items()}
        key = secrets.token_bytes(32)
        receivers = {site: self.shares[site].public for site in sites}
        escrow = deposit(key, receivers, threshold, run.manifest.hash)
        plain = BytesIO(to_bytes(parameters, {"pins": {}, "receipt": msgspec.to_builtins(draft)}))
        sealed = BytesIO()
        binding = StateBinding("split_server", run.manifest.hash, draft.round, draft.previous)
        name = seal_state(plain, sealed, key=key, binding=binding, escrow=escrow).sha256
        (run.folder / name).write_bytes(sealed.getvalue())
        return name, escrow, msgspec.structs.replace(draft, state=name)

    def share(self, server, site: str, escrow: Escrow, receipt: str) -> None:
        """`site` hands its share back to the server, naming a receipt."""
        share = withdraw(escrow, site, self.shares[site], self.run.manifest.hash)
        receiver = server.call("evidence", nonce="00" * 32)["claims"]["hpke_key"]
        key = self.run.consortium.house.site_keys[site]
        sealed = hand_back(
            HandedBack(share=share, receipt=receipt),
            manifest=self.run.manifest.hash,
            site=site,
            receiver=receiver,
            signer=key,
        )
        server.call("share", site=site, sealed=encode(sealed))

    def restore(self, server, state: str) -> dict:
        server.mailbox.deliver(self.run.folder / state, state)
        return server.call("restore", state=state)

    def release(self, server, receipt: str, sites=(ACCOMPLICE,)) -> dict:
        """Orders of `sites` for the parameters after a receipt."""
        house, manifest = self.run.consortium.house, self.run.manifest
        orders = {site: release_approval(manifest, receipt, site, house.site_keys[site]) for site in sites}
        given = msgspec.to_builtins(orders)
        return server.call("release", receipt=receipt, release_approvals=given, model=str(house.model))

    def session(self, server, site: str):
        """A session of a site with what this server serves."""
        claims = server.call("evidence", nonce="00" * 32)["claims"]
        hello = ClientHello(
            self.run.manifest.hash,
            site,
            self.run.consortium.house.site_keys[site],
            hpke_key=claims["hpke_key"],
            signing_key=claims["signing_key"],
            receipt=self.run.last,
        )
        reported = server.call("open", opening=msgspec.to_builtins(hello.opening))
        return hello.finish(reported["session"], decode(reported["proof"]))


def measurement_of(reference: SgxReference | TdxReference) -> str:
    """By which an enclave of this reference names itself in receipts."""
    found = reference.mrenclave if isinstance(reference, SgxReference) else reference.measurement
    assert found is not None
    return found


def last_of(results: list[dict]) -> Receipt:
    return parse_receipt(results[-1]["receipt"]).receipt
