"""Codes of keys, sealed streams, sealed state, receipts and rosters (contracts/sealed)."""

from error_catalogue.catalogue import Entry, define

define(
    Entry("sealing.refused", "The sealed blob could not be opened.",
          "It was damaged, cut, made for another run, round, kind or receiver, or not made by the expected "
          "sender. Fetch it again; if it stays so, tell the operator.", "operator", retry=True),
    Entry("sealing.not_sealed", "This is not a sealed blob of a version that is understood here.",
          "Check that the right file was sent, and that both sides run the same release.", "operator"),
    Entry("sealing.too_large", "The sealed blob is larger than allowed: {what} may have {limit} bytes.",
          "Ask the lead to make the study's model or adapter smaller.", "lead"),
    Entry("sealing.bad_signature", "A signature does not fit what it should vouch for.",
          "What was signed or who signed it was changed on its way. Fetch it again; if it stays so, tell the "
          "operator.", "operator", retry=True),
    Entry("sealing.bad_key", "A public or private key is malformed ({kind}).",
          "Check which key was sent; keys are lower-case hex of a fixed length.", "operator"),
    Entry("sealing.too_many_recipients", "A sealed stream had {recipients} receivers; it takes 1 to {limit}.",
          "Admit at least one client slice, and not more sites than the limit.", "lead"),
    Entry("shares.bad_threshold", "A state key cannot be shared among {sites} sites with a threshold of "
          "{threshold}.", "This is a fault of the program; tell us.", "us"),
    Entry("shares.other_escrow", "The shares of the state's key are not as the manifest says: {field}.",
          "Nothing was opened and no share was handed back. Somebody has made this state up: tell the "
          "operator and the auditor.", "operator"),
    Entry("shares.not_ours", "The sealed state holds no share of its key for this site.",
          "The site joined after that state was sealed; other sites hand their shares back.", "operator"),
    Entry("shares.too_few", "The state key needs shares of {threshold} sites; {held} have come back.",
          "Wait until more sites' agents are back; they hand their shares back by themselves.", "site",
          retry=True),
    Entry("shares.none_fit", "No {threshold} of the {held} shares that came back make the state key again.",
          "A site kept a wrong or an older share. Let more sites come back, or start the run again.",
          "operator", retry=True),
    Entry("receipt.invalid", "The receipt is not valid: {fault}.",
          "Fetch it again; if it stays so, tell the operator.", "operator", retry=True),
    Entry("receipt.chain_broken", "The receipt of round {round} does not continue the chain: {fault}.",
          "Do not go on: the server may have been rolled back. Tell the operator and the auditor.",
          "operator"),
    Entry("roster.invalid", "The roster of round {round} is not valid: {fault}.",
          "The coordinator must fix who contributes before it asks the sites to countersign.", "operator"),
    Entry("roster.below_quorum", "{found} of the sites on the roster of round {round} count; the manifest "
          "asks for {quorum}.", "Wait for more sites, or let the lead cancel the run.", "lead", retry=True),
    Entry("roster.not_countersigned", "Site {site} has not countersigned the roster of round {round}.",
          "Wait until its agent is back, or open the next round without it.", "site", retry=True),
    Entry("roster.bad_countersignature", "Site {site} signed another roster for round {round}.",
          "Do not go on: this is not the roster that the site signed. Tell the operator.", "operator"),
)  # fmt: skip
