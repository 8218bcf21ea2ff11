"""A release of tuned parameters at this site, or their use by an enclave that serves them: read it, sign it
here, and open what was sealed to this site.

The coordinator says what is asked for; the manifest that was approved here says whether it may be, and the
receipts that this site has seen say of which parameters. What comes is believed only from an enclave whose
evidence is good by that manifest's policy. Opening needs neither torch nor the base model.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from contracts.agents_api.endpoint import given
from contracts.agents_api.releases import APPROVE_RELEASE, RELEASES, ReleaseApprovalBody, ReleaseItem
from contracts.course import is_over, server_of
from contracts.evidence import Claims, Evidence
from contracts.kept_keys import hpke_key, hpke_secret
from contracts.manifest import Manifest
from contracts.program_calls import Nothing
from contracts.receipts import SignedReceipt, receipt_hash
from contracts.refusal import Refusal
from contracts.release_check import fingerprint, parse_release
from contracts.releases import (
    EXPORT,
    KIND,
    SEALED,
    SERVE,
    ApprovedRule,
    ReleaseApproval,
    Released,
    SignedRelease,
    allowed,
    approve_release,
)
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.package import MAX_PACKAGE_BYTES, unpack
from contracts.sealed.stream import Binding, unseal
from manifest_summary.leaving import receivers
from manifest_summary.short import remembered
from privacy_accounting.epsilon import spent_so_far
from site_agent.approval_key import ApprovalKey
from site_agent.approvals import approved_manifest
from site_agent.blobs import download
from site_agent.evidence import Verifier
from site_agent.files import create_private, private_folder, write_private
from site_agent.formatting import printable
from site_agent.members import confirmed_now, require_enough_for_release
from site_agent.proofs import require_appraisal
from site_agent.receipts import ReceiptBook
from site_agent.state import State
from site_agent.sweeps import next_number
from site_agent.transport import Coordinator
from translations.catalogues import words
from translations.numbers import number

_ = words("site_agent")


@dataclass(frozen=True)
class JudgedRelease:
    """A release that this site can sign: its own manifest, and the receipt that names the parameters."""

    asked: ReleaseItem
    manifest: Manifest
    receipt: SignedReceipt

    @property
    def rule(self) -> ApprovedRule:
        """By which rule it is approved."""
        return allowed(self.manifest, self.asked.rule)

    @property
    def parameters(self) -> str:
        """Hash of the receipt after which the parameters are those that are asked for."""
        return receipt_hash(self.receipt.receipt)

    @property
    def fingerprint(self) -> str:
        """What a person compares and types."""
        return fingerprint(self.parameters, self.rule)


def asked(coordinator: Coordinator) -> list[ReleaseItem]:
    """The releases of this site's runs.

    Raises: `agent.bad_answer`.
    """
    return coordinator.ask(RELEASES, Nothing())


def judge(state: State, coordinator: Coordinator, item: ReleaseItem) -> JudgedRelease:
    """Check it against what this site knows for itself.

    1. the run's manifest was approved here, and lets parameters out, or be served, as is asked for
    2. the receipt is the last one of the run, at the end of a chain that enclaves have signed which this site
       has attested; no round trains after it

    Raises: `run.not_approved_here`, `run.wrong_manifest`, `release.unfinished`, `receipt.*`, or as
    `allowed`.
    """
    manifest = approved_manifest(state, item.manifest_hash)
    if manifest.run != item.run:
        raise Refusal("run.wrong_manifest", fingerprint=manifest.hash[:16])
    allowed(manifest, item.rule)
    receipt = ReceiptBook(state, manifest, coordinator).require_latest(bytes(item.receipt))
    if not is_over(manifest, receipt.receipt):
        raise Refusal("release.unfinished")
    return JudgedRelease(item, manifest, receipt)


def approve(state: State, coordinator: Coordinator, judged: JudgedRelease, key: ApprovalKey) -> None:
    """Sign it with the site's approval key. Doing it again sends the same signature.

    Raises: as `require_enough_for_release`, `next_number` and `ApprovalKey.of`.
    """
    manifest, site = judged.manifest, state.config.site
    require_enough_for_release(state, manifest)
    own = own_key(state, judged)
    signer, known = key.of(manifest, site), confirmed_now(state, manifest)
    number = next_number(state, manifest, judged.rule)
    approval = approve_release(manifest, judged.parameters, site, signer, known, own, judged.rule, number)
    send(coordinator, judged, approval)


def own_key(state: State, judged: JudgedRelease) -> str | None:
    """Where this site wants its copy sealed to; None where nothing is sealed to sites."""
    return _key(state, judged.manifest).public if judged.rule == SEALED else None


def send(coordinator: Coordinator, judged: JudgedRelease, approval: ReleaseApproval) -> None:
    """Give the coordinator this site's approval."""
    body = ReleaseApprovalBody(judged.manifest.run, judged.rule, judged.parameters, approval)
    coordinator.post(APPROVE_RELEASE, body)


def describe(judged: JudgedRelease) -> str:
    """What will be released or served, and to whom, for the person who signs."""
    manifest, receipt = judged.manifest, judged.receipt.receipt
    serves = judged.rule == SERVE
    noise = manifest.aggregation.privacy
    spent = receipt.privacy
    if noise is None or spent is None:
        remembered_text = remembered(manifest)
    else:
        remembered_text = _("epsilon %(spent)s at delta %(delta)s (per %(unit)s)") % {
            "spent": number(f"{spent_so_far(spent):.3g}"),
            "delta": number(f"{spent.delta:g}"),
            "unit": _("hospital") if spent.unit == "site" else _("training row"),
        }
    lines = [
        _("%(value)s of the tuned parameters of the study %(study)s")
        % {"value": _("SERVING") if serves else _("RELEASE"), "study": printable(manifest.study, 200)},
        _("  run          %(run)s, manifest %(hash)s") % {"run": manifest.run, "hash": manifest.hash},
        _("  parameters   those after round %(round)s") % {"round": receipt.round},
        _("  to           %(who)s") % {"who": receivers(judged.rule)},
        _("  privacy      %(told)s") % {"told": remembered_text},
        _("  signatures   %(found)s of %(needed)s that the manifest demands")
        % {"found": judged.asked.found, "needed": judged.asked.needed},
        _("  The lead can stop it; what was answered, was answered.")
        if serves
        else _("  This cannot be taken back: who has the parameters, has them."),
    ]
    if manifest.policy.root == "development":
        lines.append(_("  DEVELOPMENT ONLY: no hardware has protected anything in this run."))
    what = _("of the last round's receipt and of serving it") if serves else _("of the last round's receipt")
    lines += ["", _("Fingerprint, %(what)s") % {"what": what}, f"  {judged.fingerprint}"]
    return "\n".join(lines)


def what_next(judged: JudgedRelease) -> str:
    """What happens once it is signed, in a line."""
    if judged.rule == SERVE:
        return _("Once enough sites have signed, an enclave answers: python -m site_agent predict")
    if judged.rule == EXPORT:
        return _("Once enough sites have signed, the study's lead downloads the adapter.")
    return _("Then: python -m site_agent release --run %(run)s --out FOLDER") % {"run": judged.manifest.run}


def fetch(state: State, coordinator: Coordinator, judged: JudgedRelease, folder: Path) -> Released:
    """Open what the enclave has sealed to this site, and write its files to `folder`.

    The enclave's evidence is appraised here, by the policy of the manifest that was approved here; it must
    attest the key that signed statement and stream, and stand in the log.

    Raises: `release.*`, `sealing.*`, `log.*`, or the code of a failed check; then nothing was written.
    """
    item, manifest, site = judged.asked, judged.manifest, state.config.site
    if judged.rule == EXPORT:
        raise Refusal("release.for_the_lead")
    statement = given(item.statement)
    if statement is None:
        raise Refusal("release.waiting", found=item.found, needed=item.needed)
    signed = parse_release(statement)
    said = signed.released
    if (said.manifest, said.receipt, said.rule) != (manifest.hash, judged.parameters, SEALED):
        raise Refusal("release.mismatch", field="receipt")
    if site not in said.recipients:
        raise Refusal("release.not_for_us")
    require_appraisal(state, coordinator, manifest, _attested(state, manifest, signed, item.evidence))
    if folder.exists() and any(folder.iterdir()):
        raise Refusal("release.folder_in_use", folder=printable(folder, 200))
    kept = private_folder(state.folder / "releases") / f"{said.output}.sealed"
    try:
        download(coordinator, said.output, kept)
        package = BytesIO()
        with kept.open("rb") as file:
            unseal(
                file,
                package,
                binding=Binding(manifest.hash, judged.receipt.receipt.round, KIND, said.program),
                recipient=site,
                key=_key(state, manifest),
                sender_key=signed.signing_key,
                sha256=said.output,
                limit=MAX_PACKAGE_BYTES,
            )
    finally:
        kept.unlink(missing_ok=True)
    files = unpack(package.getvalue())
    private_folder(folder)
    for name, data in files.items():
        write_private(folder / name, data)
    return said


def _attested(state: State, manifest: Manifest, signed: SignedRelease, shown: Evidence | None) -> Claims:
    """The claims of the measured enclave of this run whose key has signed. Its nonce was the coordinator's:
    keys die with their enclave, so an old proof is as good as a fresh one."""
    if shown is None:
        raise Refusal("agent.bad_answer", fault="the release comes without evidence")
    verifier = Verifier(manifest, server_of(manifest), state.folder)
    claims = verifier.evidence(shown, shown.claims.nonce).claims
    if claims.signing_key != signed.signing_key:
        raise Refusal("release.mismatch", field="signing key")
    return claims


def _key(state: State, manifest: Manifest) -> HpkeKey:
    """The key that this site's copy is sealed to: made here, kept here, one for each run."""
    path = private_folder(state.folder / "releases") / f"{manifest.hash}.key"
    create_private(path, hpke_secret(HpkeKey.generate()))
    return hpke_key(path.read_bytes())
