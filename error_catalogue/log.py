"""Codes of the transparency log and its audit bundle (transparency_log)."""

from error_catalogue.catalogue import Entry, define

define(
    Entry("log.bad_range", "The log has {size} entries; {asked} lies outside.",
          "Ask for entries and sizes that the current checkpoint covers.", "operator"),
    Entry("log.not_included", "The proof does not show that the entry is in the log.",
          "Do not go on: the entry or the log was changed. Tell the operator and the auditor.", "operator"),
    Entry("log.not_consistent", "The log at {second} entries does not contain the log at {first} entries.",
          "Do not go on: entries were changed, removed or reordered, or the log forked. Tell the auditor.",
          "operator"),
    Entry("log.went_back", "The log shows {found} entries, but {seen} were already seen.",
          "Do not go on: the log was cut or rolled back. Tell the operator and the auditor.", "operator"),
    Entry("log.invalid_note", "The checkpoint is not a valid signed note: {fault}.",
          "Fetch it again; if it stays so, tell the operator.", "operator", retry=True),
    Entry("log.bad_checkpoint_signature", "The checkpoint is not signed by the key {name}.",
          "Do not go on: someone else signed this log, or it was changed. Tell the operator.", "operator"),
    Entry("log.wrong_origin", "The checkpoint is of the log {found}, not of {expected}.",
          "Check the coordinator's address.", "operator"),
    Entry("log.invalid_entry", "The log entry is not valid: {fault}.",
          "Nothing was logged, so nothing was released. Tell the operator.", "us"),
    Entry("bundle.unusable", "The file is not a usable audit bundle: {fault}.",
          "Export the bundle again.", "operator"),
    Entry("bundle.too_large", "The audit bundle unpacks to more than allowed: {what} may have {limit}.",
          "Export fewer entries at once, or raise the limit if you trust where it came from.", "operator"),
)  # fmt: skip
