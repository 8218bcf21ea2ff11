"""Codes of backup and restore (enclave_jobs/backup)."""

from error_catalogue.catalogue import Entry, define

define(
    Entry(
        "backup.exists", "{file} is there already.", "Name a new file; a backup replaces none.", "operator"
    ),
    Entry(
        "backup.not_empty",
        "This place is not empty: its database has tables, or its blob folder files.",
        "Restore into a new database and an empty blob folder, before migrate and before the stack is "
        "started.",
        "operator",
    ),
    Entry(
        "backup.unreadable",
        "{file} is no backup that this version reads, or a part of it is missing.",
        "Compare it with the file that was written, and use the version of FedSlice that wrote it.",
        "operator",
    ),
    Entry(
        "backup.other_engine",
        "The backup is of {found}; this coordinator uses {expected}.",
        "Set FEDSLICE_DATABASE to a database of the kind that was backed up.",
        "operator",
    ),
    Entry(
        "backup.other_version",
        "The backup is of a newer version of FedSlice; nothing was changed.",
        "Restore with the version that wrote it.",
        "operator",
    ),
    Entry(
        "backup.bad_key",
        "{file} is not the certificate or key that the keys are for.",
        "Use an RSA certificate (openssl req -x509 -newkey rsa:3072) and the key that belongs to it.",
        "operator",
    ),
)
