"""Codes of the evidence verifier (attestation). Each failed check of an appraisal carries one of them."""

from error_catalogue.catalogue import Entry, define

_MENDED = "Take fresh evidence; if it stays so, tell the operator: the platform or the way is at fault."
_COLLATERAL = "Fetch the collateral again from the configured service; if it stays so, tell the operator."
_CLOCK = "Check the clock, and fetch the collateral again."
_DO_NOT_TRUST = "Do not trust this platform. Tell the operator, and keep the evidence: it is in the log."

define(
    # 1 format
    Entry("attest.quote_too_large", "The quote has {found}; {expected} are read.", _MENDED,
          "operator"),
    Entry("attest.quote_malformed", "The quote is malformed: {found}.", _MENDED, "operator"),
    Entry("attest.quote_unsupported", "The quote has {found}, which this verifier does not know.",
          "Only SGX quotes v3 and TDX quotes v4 and v5, with ECDSA P-256 and the PCK chain, are read.",
          "operator"),
    Entry("attest.collateral_malformed", "The collateral is malformed: {found} must be {expected}.",
          _COLLATERAL, "operator"),
    Entry("attest.certificate_malformed", "A certificate cannot be read: {found}.", _COLLATERAL,
          "operator"),
    Entry("attest.crl_malformed", "A revocation list cannot be read: {found}.", _COLLATERAL, "operator"),
    Entry("attest.tcb_info_malformed", "The TCB info is not TCB info v3: {found}.", _COLLATERAL, "operator"),
    Entry("attest.qe_identity_malformed", "The QE identity is not QE identity v2: {found}.", _COLLATERAL,
          "operator"),
    # 2 trust root
    Entry("attest.policy_root", "The policy says {expected} but pins the root {found}.",
          "Ask the lead to correct the policy of the study.", "lead"),
    Entry("attest.root_untrusted", "The evidence stands under root {found}, but only {expected} is accepted.",
          "Hardware evidence needs Intel's root, development evidence this installation's; a run never mixes "
          "them. Check in which runtime the enclave was started.", "operator"),
    Entry("attest.root_unmarked", "The root {found} does not say that it is for development only.",
          "Make the development root again with FedSlice.", "operator"),
    # 3 claims
    Entry("attest.nonce", "The evidence answers another nonce than ours.",
          "Ask again with a new nonce. If it stays so, somebody replays old evidence.", "operator",
          retry=True),
    Entry("attest.manifest", "The evidence is for the manifest {found}, but {expected} was approved.",
          "Do not go on. Compare the manifests, and tell the operator.", "operator"),
    Entry("attest.program", "The evidence is of the program {found}, but {expected} was asked for.",
          "Do not go on, and tell the operator.", "operator"),
    # 4 certificates and revocation
    Entry("attest.chain_broken", "A certificate chain does not hold: {found}; expected {expected}.",
          _DO_NOT_TRUST, "operator"),
    Entry("attest.certificate_role", "A certificate has another role: {found}; expected {expected}.",
          _DO_NOT_TRUST, "operator"),
    Entry("attest.certificate_not_yet_valid", "A certificate is not valid yet: {found} is before "
          "{expected}.", _CLOCK, "operator"),
    Entry("attest.certificate_expired", "A certificate has expired: {found} is after {expected}.",
          _CLOCK, "operator"),
    Entry("attest.crl_issuer", "A revocation list is from the wrong authority: {found}; expected "
          "{expected}.", _COLLATERAL, "operator"),
    Entry("attest.crl_not_yet_valid", "A revocation list is from the future: {found} is before "
          "{expected}.", _CLOCK, "operator"),
    Entry("attest.crl_expired", "A revocation list has expired: {found} is after {expected}.", _CLOCK,
          "operator"),
    Entry("attest.revoked", "A certificate was revoked: {found}.", _DO_NOT_TRUST, "operator"),
    # 5 signed documents
    Entry("attest.tcb_signer", "A signer is not the TCB signer: {found}.", _COLLATERAL,
          "operator"),
    Entry("attest.tcb_info_signature", "The signature of the TCB info does not hold.", _COLLATERAL,
          "operator"),
    Entry("attest.tcb_info_not_yet_valid", "The TCB info is from the future: {found} is before {expected}.",
          _CLOCK, "operator"),
    Entry("attest.tcb_info_expired", "The TCB info has expired: {found} is after {expected}.", _CLOCK,
          "operator"),
    Entry("attest.tcb_info_kind", "The TCB info is for {found}, the quote for {expected}.", _COLLATERAL,
          "operator"),
    Entry("attest.fmspc", "The TCB info is for FMSPC {found}, the platform is {expected}.", _COLLATERAL,
          "operator"),
    Entry("attest.pce_id", "The TCB info is for PCEID {found}, the platform is {expected}.", _COLLATERAL,
          "operator"),
    Entry("attest.qe_identity_signature", "The signature of the QE identity does not hold.", _COLLATERAL,
          "operator"),
    Entry("attest.qe_identity_kind", "The QE identity is {found}; this quote needs {expected}.", _COLLATERAL,
          "operator"),
    Entry("attest.qe_identity_not_yet_valid", "The QE identity is from the future: {found} is before "
          "{expected}.", _CLOCK, "operator"),
    Entry("attest.qe_identity_expired", "The QE identity has expired: {found} is after {expected}.", _CLOCK,
          "operator"),
    # 6 quoting enclave, 7 quote
    Entry("attest.qe_signature", "The quoting enclave's report is not signed by this platform's key.",
          _DO_NOT_TRUST, "operator"),
    Entry("attest.qe_binding", "The quoting enclave did not vouch for the attestation key in the quote.",
          _DO_NOT_TRUST, "operator"),
    Entry("attest.qe_debug", "The quoting enclave runs in debug mode.", _DO_NOT_TRUST, "operator"),
    Entry("attest.qe_identity", "The quoting enclave is not the published one: {found}; expected {expected}.",
          _DO_NOT_TRUST, "operator"),
    Entry("attest.quote_signature", "The quote is not signed by the attestation key in it.", _DO_NOT_TRUST,
          "operator"),
    # the boot event log of a TD
    Entry("attest.event_log_malformed", "The event log cannot be read: {found}.", _MENDED, "operator"),
    Entry("attest.event_log", "The event log does not explain {what}: replayed it is {found}, the quote says "
          "{expected}.", "Take log and quote from the same boot of the same trust domain. If they are, "
          "do not believe the log.", "operator"),
    # what was started in a TD
    Entry("attest.launches_missing", "The evidence of a trust domain does not say what was started in it.",
          "Start the program by the launcher of the measured image (enclave/launcher.py): what an ordinary "
          "process asks a quote for proves no program.", "operator"),
    Entry("attest.launches_malformed", "The launcher's event log cannot be read: {found}; expected "
          "{expected}.", _MENDED, "operator"),
    Entry("attest.launches", "More was started in the trust domain than one program: {found}.",
          "Start a fresh trust domain for each program; a second one beside it could read its memory.",
          "operator"),
    Entry("attest.launched_program", "The trust domain was started for the program {found}; its keys claim "
          "to be the {expected}.", _DO_NOT_TRUST, "operator"),
    # 8 TCB, 9 attributes
    Entry("attest.tdx_module", "The TDX module is not one that the TCB info names: {found}; expected "
          "{expected}.", "Update the host's TDX module, and fetch the collateral again.", "operator"),
    Entry("attest.tcb_not_supported", "The platform reaches no published TCB level: {found}.",
          "Update the host's firmware and microcode, and fetch the collateral again.", "operator"),
    Entry("attest.tcb_revoked", "The platform's TCB level was revoked ({found}).",
          "Do not trust this platform until its firmware and microcode are updated.", "operator"),
    Entry("attest.debug", "The enclave or TD runs in debug mode: its memory can be read.",
          "Build and start it without debug mode.", "operator"),
    Entry("attest.not_initialised", "The enclave was not initialised when it was quoted.", _DO_NOT_TRUST,
          "operator"),
    Entry("attest.not_64_bit", "The enclave runs in 32-bit mode, which nothing of ours was built for.",
          _DO_NOT_TRUST, "operator"),
    Entry("attest.reserved_bytes", "Reserved bytes are not zero: {found}.", _DO_NOT_TRUST, "operator"),
    Entry("attest.provisioning_key", "The enclave may use the platform's provisioning or launch key.",
          "Build it without that attribute.", "operator"),
    Entry("attest.reserved_attributes", "Reserved attributes are set: {found}.",
          "Start it without attributes that this verifier does not know, migration of a TD among them.",
          "operator"),
    Entry("attest.sept_ve_disable", "The TD runs without SEPT_VE_DISABLE, so its host can inject exceptions.",
          "Start the TD with SEPT_VE_DISABLE; some clouds cannot, and are not accepted.", "operator"),
    Entry("attest.service_td", "A service TD can act on this TD (MRSERVICETD is not zero).",
          "Start the TD without a service TD; some clouds cannot, and are not accepted.", "operator"),
    # 10 floors
    Entry("attest.tcb_evaluation_floor", "The collateral is older than collateral seen before: {found}; "
          "expected {expected}.", _COLLATERAL, "operator"),
    Entry("attest.crl_floor", "A revocation list is older than one seen before: {found}; expected "
          "{expected}.", _COLLATERAL, "operator"),
    Entry("attest.issue_floor", "The collateral was issued before the manifest's floor: {found}; expected "
          "{expected}.", _COLLATERAL, "operator"),
    Entry("attest.policy_floor", "The manifest lets older collateral count than this site has seen: {what} "
          "{found}; seen was {expected}.", "Do not approve it. Ask the lead to freeze the study again once "
          "the coordinator has fetched the newest collateral.", "lead"),
    # 11 policy
    Entry("attest.status", "The platform's TCB status is {found}; accepted is {expected}.",
          "Update the platform, or ask the lead to accept this status in a new manifest.", "operator"),
    Entry("attest.advisory", "The platform is open to {found}; accepted is {expected}.",
          "Update the platform, or ask the lead to accept these advisories in a new manifest.", "operator"),
    Entry("attest.measurement", "The enclave or TD is none that the policy lists.",
          "Compare the measurement with the reference values: other code runs, or the policy is older than "
          "the code.", "lead"),
    Entry("attest.configuration", "The right code was started in another way than the policy says: {found}; "
          "expected {expected}.", "Start it as the reference value says; or, if this way is right, propose a "
          "reference value that names it, and freeze the study again.", "operator"),
    Entry("attest.svn_too_low", "The enclave's version is too old: {found}; expected {expected}.",
          "Update FedSlice on that host.", "operator"),
    # 12 binding
    Entry("attest.report_data", "The quote does not bind the keys that came with it.",
          "Do not use these keys: somebody put them beside a valid quote.", "operator"),
    # a confidential GPU beside a TD
    Entry("attest.gpu_missing", "There is no {expected}.",
          "Give what is missing: a trust domain whose GPU nobody can judge is not believed.", "operator"),
    Entry("attest.gpu_malformed", "The GPU's report cannot be read: {found}.", _MENDED, "operator"),
    Entry("attest.gpu_named", "The trust domain does not name this GPU's report: {found}; expected "
          "{expected}.", _DO_NOT_TRUST, "operator"),
    Entry("attest.gpu_root", "The GPU stands under root {found}; accepted is {expected}.", _DO_NOT_TRUST,
          "operator"),
    Entry("attest.gpu_chain", "The GPU's certificates do not hold: {found}; expected {expected}.",
          _DO_NOT_TRUST, "operator"),
    Entry("attest.gpu_revocation", "It is not shown that the GPU's certificates are good: {found}; expected "
          "{expected}.", "Fetch the OCSP answers again; if one says revoked, do not use this GPU.",
          "operator"),
    Entry("attest.gpu_nonce", "The GPU was not asked by this start of the program.", _MENDED, "operator"),
    Entry("attest.gpu_signature", "The report is not signed by the GPU.", _DO_NOT_TRUST, "operator"),
    Entry("attest.gpu_versions", "The GPU runs {found}; expected {expected}.",
          "Install the versions that the reference names, or propose a reference for these.", "operator"),
    Entry("attest.gpu_measurement", "The GPU measures something else: {found}; expected {expected}.",
          "Its confidential mode may be off, or its mode for developers on; else do not trust it.",
          "operator"),
    # both opinions
    Entry("attest.second_opinion", "Our checks accept this evidence, dcap-qvl does not: {found}.",
          "Nothing is released while two verifiers disagree. Tell us, with the evidence.", "us"),
    Entry("attest.internal", "The verifier itself failed on this evidence.",
          "Nothing is released. Tell us, with the evidence; the full story is in the verifier's log.", "us"),
)  # fmt: skip
