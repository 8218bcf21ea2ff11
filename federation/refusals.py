"""The control plane's table of the error catalogue, and the HTTP status that belongs to a code."""

from enclave.errors import Entry, define

_RETRY_ENROL = "The site admin opens the site's page and copies a new enrolment command."
_FETCH_AGAIN = "Look at the page again: somebody was faster, or the state has moved on."

define(
    Entry("request.invalid", "The request is not understood: {fault}.",
          "If this agent is older than the coordinator, update it; else send this to the operator.", "site"),
    Entry("request.too_large", "The request is larger than the {limit} bytes that are read.",
          "Send less at once.", "site"),
    Entry("request.not_found", "There is nothing here by that name that you may see.",
          "Check the address.", "site"),
    Entry("request.method", "This address does not answer {method}.",
          "Update the agent; if it is up to date, send this text to the operator.", "site"),
    Entry("request.busy", "The coordinator is busy.", "Try again in a moment.", "us", retry=True),
    # The agent's proof of who it is
    Entry("auth.missing", "The request carries no token.", "Enrol this agent first.", "site"),
    Entry("auth.bad_token", "The agent's token is not valid: {fault}.",
          "Check that this agent's key is the one that was enrolled.", "site"),
    Entry("auth.clock",
          "The agent's token is not valid at the coordinator's time, {server_time} (Unix seconds).",
          "Set the clock of the agent's machine (NTP), or look whether requests are held up on their way.",
          "site", retry=True),
    Entry("auth.lifetime", "The agent's token lives longer than {limit} s.", "Update the agent.", "site"),
    Entry("auth.replayed", "This token was used before.",
          "Make a new token for every request. If the agent did not repeat itself, somebody is replaying its"
          " traffic: tell the operator.", "site"),
    Entry("auth.unknown_site", "No enrolled site has this id.", "Enrol this agent first.", "site"),
    Entry("auth.site_suspended", "This site is suspended.",
          "The operator suspended it; the reason stands on the site's page.", "operator"),
    Entry("auth.site_revoked", "This site is revoked for good.",
          "To take part again, the hospital is invited anew.", "operator"),
    Entry("auth.forbidden", "Your role does not allow this.", "Ask somebody with the right role.",
          "operator"),
    # People
    Entry("invitation.unknown", "This invitation link is not known.",
          "Check that the whole link was copied, or ask for a new invitation.", "operator"),
    Entry("invitation.used", "This invitation link was used.",
          "Sign in with the account that it made, or ask for a new invitation.", "operator"),
    Entry("invitation.expired", "This invitation link has expired.", "Ask for a new invitation.", "operator"),
    Entry("invitation.account_exists", "There is an account with the address {email}.",
          "Invite another address.", "lead"),
    Entry("invitation.bad_email", "{email} is not an e-mail address.", "Correct the address.", "lead"),
    Entry("invitation.mail_failed", "The mail to {email} could not be sent, so nothing was kept.",
          "Check the mail settings (FEDSLICE_MAIL) and invite again.", "operator", retry=True),
    Entry("people.bad_password", "The password is too weak: {fault}", "Choose a longer one.", "site"),
    Entry("people.account_exists", "There is an account with this address.", "Choose another.",
          "operator"),
    # Sites
    Entry("site.name_missing", "The hospital has no name yet.", "Give its name.", "site"),
    Entry("site.name_taken", "Another hospital is called {name}.", "Choose a name that tells them apart.",
          "site"),
    Entry("site.wrong_state", "The site is {state}; this is not possible now.", _FETCH_AGAIN,
          "operator"),
    Entry("maintenance.bad_time", "A maintenance window ends after it starts and in the future, and lasts at"
          " most {days} days.", "Correct the times.", "site"),
    Entry("maintenance.too_many", "A hospital plans at most {limit} maintenance windows.",
          "Remove one that is not needed.", "site"),
    Entry("enrolment.unknown_token", "This enrolment token is not known.",
          "Check that the whole command was copied. " + _RETRY_ENROL, "site"),
    Entry("enrolment.token_used", "This enrolment token was used.", _RETRY_ENROL, "site"),
    Entry("enrolment.token_expired", "This enrolment token has expired.", _RETRY_ENROL, "site"),
    Entry("enrolment.key_taken", "This key belongs to another site.",
          "Every site needs a key of its own: enrol with a fresh state folder.", "site"),
    Entry("enrolment.bad_key", "The agent's public key is not a usable Ed25519 key.", "Update the agent.",
          "site"),
    Entry("enrolment.runtime", "This coordinator does not accept the runtime {runtime}.",
          "Enrol with one of: {accepted}.", "site"),
    Entry("enrolment.platform_key", "The runtime {runtime} needs a platform key to be certified.",
          "Update the agent.", "site"),
    # Datasets
    Entry("card.small_count", "The card shows the count {count} of a label; fewer than {threshold} rows are"
          " never shown.", "Update the agent: it must suppress small counts.", "site"),
    Entry("card.recoverable_count", "Suppressed counts of the card can be worked out from its total.",
          "Update the agent: it must suppress complementary counts too.", "site"),
    Entry("card.wrong_sum", "The card's {part} do not add up to its {rows} rows.",
          "Update the agent, or prepare the dataset again.", "site"),
    Entry("card.too_small", "The dataset has {rows} rows; at least {threshold} are needed.",
          "Add rows.", "site"),
    Entry("card.name_taken", "This site offers another dataset called {name}.",
          "Withdraw that one first, or choose another name.", "site"),
    Entry("card.withdrawn", "The dataset {name} was withdrawn.", "Choose another dataset.", "lead"),
    Entry("card.in_use", "The dataset {name} belongs to a running study.",
          "Wait until its run has ended, or ask its lead to cancel it.", "site"),
    # Studies
    Entry("study.wrong_state", "The study is {state}; this is not possible now.", _FETCH_AGAIN, "lead"),
    Entry("study.invalid_plan", "The study's settings are not valid: {fault}.", "Correct the settings.",
          "lead"),
    Entry("study.no_datasets", "The study has no datasets.", "Choose one dataset of each site.", "lead"),
    Entry("study.two_datasets", "Site {site} gives two datasets.", "Choose one dataset of each site.",
          "lead"),
    Entry("study.no_labels", "The dataset {dataset} has no labels, and the study is a classification.",
          "Choose datasets with labels, or another task.", "lead"),
    Entry("study.site_not_active", "Site {site} is not active.",
          "Wait for its agent, or leave it out.", "site"),
    Entry("study.unknown_model", "The model {source} is not registered for {task}.",
          "Choose a registered model, or have the operator register it.", "operator"),
    Entry("study.no_reference",
          "No reference value is in force for the program {program} under the {root} root.",
          "The operator adds the measurement of the enclave program.", "operator"),
    Entry("study.bad_targets", "The model's usual adapter targets are not known, and none are given.",
          "Name the layers to adapt.", "lead"),
    Entry("study.not_approved", "Site {site} has not signed this manifest.",
          "The site admin runs `python -m site_agent approve` at the hospital.", "site"),
    Entry("study.stale_manifest", "What was approved no longer holds: {fault}.",
          "Reopen the study, freeze it again and ask the sites again.", "lead"),
    Entry("study.runtime", "This coordinator has no server enclaves of the runtime {runtime}.",
          "Choose one of: {accepted}.", "lead"),
    Entry("approval.stale_manifest", "This manifest is not waiting for approval.",
          "Fetch the approvals again and look at the manifest that is in force.", "site"),
    Entry("run.wrong_state", "The run is {state}; this is not possible now.", _FETCH_AGAIN, "lead"),
    # Attestation
    Entry("nonce.unknown", "The evidence answers a nonce that was not issued for this.",
          "Ask for a new nonce and answer that.", "site", retry=True),
    Entry("nonce.used", "The evidence answers a nonce that was answered before.",
          "Ask for a new nonce and answer that.", "site", retry=True),
    Entry("nonce.expired", "The evidence answers a nonce that has expired.",
          "Ask for a new nonce and answer that at once.", "site", retry=True),
    Entry("reference.duplicate", "This measurement of {program} is in force already.",
          "Suspend it first, if it is to be replaced.", "operator"),
    Entry("reference.invalid", "The reference value is not valid: {fault}.", "Correct it.", "operator"),
    Entry("reference.suspended", "This reference value is suspended already.", _FETCH_AGAIN, "operator"),
    Entry("reference.needs_review", "Another measurement of {program} was accepted before this one.",
          "Put it forward as a change: two people review it.", "operator"),
    Entry("reference.lapsed", "The reference value {measurement}… of {program}, which this run's policy"
          " accepts, is suspended.",
          "Nothing is released under this policy any more. The lead freezes the study anew, and the sites"
          " approve it.", "lead"),
    Entry("reference.under_review", "The measurement {measurement}… of {program} is under review.",
          "This site is quarantined with it until two people have approved it (review {review}); until then,"
          " run the approved version.", "operator"),
    Entry("reference.rejected", "The measurement {measurement}… of {program} was reviewed and rejected.",
          "Run the approved version of FedSlice; why it was rejected stands in review {review}.", "site"),
    Entry("review.open", "This measurement of {program} is under review already.",
          "Vote on that review.", "operator"),
    Entry("review.closed", "The review is {state}.", _FETCH_AGAIN, "operator"),
    Entry("review.voted", "You have given your word on this review.",
          "The second approval must come from somebody else.", "operator"),
    Entry("review.needs_auditor", "Both approvals would be operators'.",
          "At least one of the two must be an auditor's.", "operator"),
    Entry("collateral.none", "There is no collateral for this kind of platform yet.",
          "The operator sets the address of a collateral service (FEDSLICE_PCCS), from which it is then"
          " fetched within minutes, or imports it: `python manage.py import_collateral FILE`.", "operator",
          retry=True),
    Entry("collateral.stale", "The collateral is stale: its {part} ended at Unix time {expired}.",
          "No key is released with stale collateral. The operator refreshes it (FEDSLICE_PCCS) or imports a"
          " new set: `python manage.py import_collateral FILE`.", "operator", retry=True),
    Entry("collateral.older", "This collateral goes back behind the one in use for {tee} {fmspc} {ca}.",
          "Fetch the newest from Intel's service. If this is the newest, the cache that served it is held"
          " back: do not use it.", "operator"),
    Entry("collateral.from_the_future", "The collateral's {part} begins only at Unix time {valid_from}.",
          "Check the clock of this machine.", "operator"),
    Entry("collateral.unreachable", "The collateral service at {address} does not serve: {fault}.",
          "Check the address (FEDSLICE_PCCS) and the way out of this network.", "operator", retry=True),
    Entry("collateral.unreadable", "The collateral cannot be read: {fault}.",
          "Give QuoteCollateralV3 as JSON, or check that FEDSLICE_PCCS is a PCS or PCCS with API v4.",
          "operator"),
    Entry("bundle.too_long", "A bundle from the browser holds at most {limit} entries; asked were {asked}.",
          "Export a part (first and last entry), or use `python manage.py export_bundle FILE` on the"
          " coordinator.", "operator"),
    Entry("cosignature.unfit", "This is no cosignature of a checkpoint of this log: {fault}.",
          "Send the witness a checkpoint of this log, and import what it returns.", "operator"),
)  # fmt: skip

_FORBIDDEN = {"auth.site_suspended", "auth.site_revoked", "auth.forbidden"}
_CONFLICT = {
    "site.wrong_state", "site.name_taken", "study.wrong_state", "run.wrong_state", "enrolment.key_taken",
    "card.name_taken", "card.in_use", "card.withdrawn", "approval.stale_manifest",
    "study.stale_manifest", "study.not_approved", "reference.duplicate", "reference.suspended",
    "reference.needs_review", "reference.lapsed", "reference.under_review", "reference.rejected",
    "review.open", "review.closed", "review.voted", "review.needs_auditor", "collateral.older",
}  # fmt: skip
STATUS = {
    "internal": 500,
    "request.not_found": 404,
    "request.method": 405,
    "request.too_large": 413,
    "request.busy": 503,
    "invitation.used": 410,
    "invitation.expired": 410,
    "enrolment.token_used": 410,
    "enrolment.token_expired": 410,
    **dict.fromkeys(_FORBIDDEN, 403),
    **dict.fromkeys(_CONFLICT, 409),
}


def status_of(code: str) -> int:
    """The HTTP status of a refusal: 401 for a failed proof of identity, 400 where nothing else is said.

    Other packages add theirs to STATUS.
    """
    return STATUS.get(code, 401 if code.startswith("auth.") else 400)
