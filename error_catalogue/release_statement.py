"""Codes of the release statement (contracts/release_statement.py)."""

from error_catalogue.catalogue import Entry, define

define(
    Entry(
        "release_statement.invalid",
        "The release statement cannot be believed: {fault}.",
        "Fetch it again from where FedSlice's makers publish it. If it stays so, tell the operator.",
        "operator",
    ),
    Entry(
        "release_statement.other_key",
        "The release statement is signed by the key {found}; at its enrolment this site was told {expected}.",
        "Do not approve. Ask FedSlice's makers, not the coordinator, which key is theirs.",
        "site",
    ),
    Entry(
        "release_statement.older",
        "The release statement has the number {found}, but this site has seen {seen}, or another of that "
        "number.",
        "Somebody holds the newer one back. Do not approve; tell the operator.",
        "operator",
    ),
    Entry(
        "release_statement.expired",
        "The release statement {sequence} has expired.",
        "Ask the operator to publish the newest one (`manage.py publish_release_statement`).",
        "operator",
    ),
    Entry(
        "release_statement.missing",
        "The coordinator has no release statement.",
        "Ask the operator to publish it (`manage.py publish_release_statement FILE`). Without it nobody "
        "here can say whose code the enclaves run.",
        "operator",
    ),
    Entry(
        "release_statement.key_not_pinned",
        "This site was enrolled without the fingerprint of the project's release key.",
        "Ask FedSlice's makers for it, and give the enrolment command again with --release-key FINGERPRINT.",
        "site",
    ),
    Entry(
        "enrolment.key_pinned",
        "This site has pinned another key ({pinned}) at its enrolment.",
        "Nothing was changed. Find out by another channel which of the two is right; only a new state "
        "folder can pin another.",
        "site",
    ),
)
