"""Codes of the approval key: the one with which a person approves manifests and orders releases."""

from error_catalogue.catalogue import Entry, define

_FILE = "Name the file with --approval-key FILE; `enrol` or `approval-key create` made it."

define(
    Entry(
        "approval.online_key",
        "The signature for the site {site} is by its agent's key; only its approval key decides.",
        "Sign with `python -m site_agent approve` at the hospital. If nobody there tried to, somebody has a "
        "copy of the agent: tell the operator to suspend the site.",
        "site",
    ),
    Entry("approval_key.missing", "There is no approval key in {file}.", _FILE, "site"),
    Entry(
        "approval_key.damaged",
        "{file} is not a file of an approval key, or is damaged.",
        "Name another one with --approval-key FILE, or restore it from its copy. Where there is none: "
        "`python -m site_agent approval-key replace`.",
        "site",
    ),
    Entry(
        "approval_key.exists",
        "{file} exists already; nothing was changed.",
        "Choose another name: a key is never overwritten.",
        "site",
    ),
    Entry(
        "approval_key.public_only",
        "{file} holds the public half of the approval key, which cannot sign.",
        "Name the file with the sealed key (--approval-key FILE), or sign on the machine that has it: "
        "approve --export, --sign, --import.",
        "site",
    ),
    Entry(
        "approval_key.other",
        "The key in {file} is not the one that the manifest names for this site.",
        _FILE + " A run keeps the key that it was frozen with.",
        "site",
    ),
    Entry(
        "approval_key.wrong_passphrase",
        "The passphrase does not open {file}.",
        "Try again. If it is lost: `python -m site_agent approval-key replace`.",
        "site",
    ),
    Entry(
        "approval_key.short_passphrase",
        "The passphrase has {found} characters; {least} are the least.",
        "Six random words are easy to remember and hard to guess.",
        "site",
    ),
    Entry(
        "approval_key.passphrases_differ",
        "The two passphrases are not the same.",
        "Nothing was changed. Run it again.",
        "site",
    ),
    Entry(
        "approval_key.needs_passphrase",
        "The approval key needs a passphrase, but there is no terminal.",
        "Run it in a terminal, or give --passphrase-file FILE (/dev/fd/3 for a descriptor that is handed "
        "down). A development installation may enrol with --development-approval-key.",
        "site",
    ),
    Entry(
        "approval_key.exposed",
        "Others than its owner can read {file}.",
        "Make it private first: chmod 600.",
        "site",
    ),
    Entry(
        "approval_key.development",
        "An approval key without a passphrase is for development; the runtime is {runtime}.",
        "Make one with a passphrase: `python -m site_agent approval-key create`, or enrol without "
        "--development-approval-key.",
        "site",
    ),
)
define(
    Entry(
        "approval_token.no_library",
        "The approval key is on a PKCS#11 token, and python-pkcs11 is not installed.",
        "python -m pip install --require-hashes --requirement requirements-token.lock",
        "site",
    ),
    Entry(
        "approval_token.module",
        "The PKCS#11 library {module} cannot be loaded: {fault}.",
        "Install the library of the token's maker, and name its path: --on-token LABEL MODULE. For SoftHSM, "
        "say in SOFTHSM2_CONF where its tokens are.",
        "site",
    ),
    Entry(
        "approval_token.absent",
        'There is no token "{token}" (serial number: {serial}).',
        "Plug it in and run it again. If it is lost: `python -m site_agent approval-key replace`.",
        "site",
    ),
    Entry(
        "approval_token.several",
        '{found} tokens are called "{token}".',
        "Unplug all but the one that is to have the key, or give it another label.",
        "site",
    ),
    Entry(
        "approval_token.wrong_pin",
        'The token "{token}" does not take this PIN.',
        "Try again, with care: many tokens lock after three to ten wrong ones.",
        "site",
    ),
    Entry(
        "approval_token.locked",
        'The token "{token}" is locked: a wrong PIN was given too often.',
        "Unlock it by its maker's tool (with the PUK or the security officer's PIN). If that is lost: "
        "`python -m site_agent approval-key replace`.",
        "site",
    ),
    Entry(
        "approval_token.pin_elsewhere",
        'The approval key is on the token "{token}": it has no passphrase.',
        "Change the token's PIN by its maker's tool. The key and its file stay as they are.",
        "site",
    ),
    Entry(
        "approval_token.key_absent",
        'The token "{token}" has not one Ed25519 key with the id {key} and its public half, but {found}.',
        "Use the token on which the key was made. A key that was deleted there is lost: "
        "`python -m site_agent approval-key replace`.",
        "site",
    ),
    Entry(
        "approval_token.key_can_leave",
        'The key {key} was not drawn on the token "{token}", or can leave it.',
        "Make one there: `approval-key create --on-token LABEL MODULE`, without --token-key.",
        "site",
    ),
    Entry(
        "approval_token.no_ed25519",
        'The token "{token}" does not sign by Ed25519 (CKM_EDDSA).',
        "Approvals are Ed25519 signatures. Use a token that offers it, or a key under a passphrase: "
        "`approval-key create` without --on-token.",
        "site",
    ),
    Entry(
        "approval_token.bad_signature",
        'What the token "{token}" answered is no signature by this site\'s approval key.',
        "Nothing was sent. Use the token on which the key was made; if it is that one, believe neither it "
        "nor its library: `python -m site_agent approval-key replace`.",
        "site",
    ),
    Entry(
        "approval_token.failed",
        'The token "{token}" answered with an error: {fault}.',
        "Look the error up in the papers of the token's maker; nothing was signed.",
        "site",
    ),
)
define(
    Entry(
        "signing_request.which",
        "{found} manifests and releases wait for this site; a file holds one.",
        "Name it by its fingerprint: approve --export FILE --hash FINGERPRINT.",
        "site",
    ),
    Entry(
        "signing_request.malformed",
        "{file} is no file of `approve --export` or `--sign`: {fault}.",
        "Write it again on the machine that made it.",
        "site",
    ),
    Entry(
        "signing_request.altered",
        "{file} is not what this site's agent wrote: it was changed on its way, or belongs to another site.",
        "Sign nothing. Export it again, and find out who had the file.",
        "site",
    ),
    Entry(
        "signing_request.other_site",
        "The file is of the site {site}; this state folder belongs to another one.",
        "Give each site that signs here a folder of its own: --state FOLDER.",
        "site",
    ),
)
