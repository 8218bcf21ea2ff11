"""Codes of the threads between lead and hospitals (federation/threads)."""

from error_catalogue.catalogue import Entry, define

define(
    Entry("thread.empty", "There is no text in the message.",
          "Write what the other side is to know; invisible characters alone are no text.", "site"),
    Entry("thread.too_long", "The message has {found} characters; at most {limit} are taken.",
          "Shorten it, or say it in two messages.", "site"),
    Entry("thread.not_asked", "This hospital is not asked about that.",
          "Choose what the study asks the hospital about now.", "site"),
    Entry("thread.signed", "Your hospital has signed this already, or nothing is asked for any more.",
          "A signature cannot be declined afterwards. Ask for changes, or ask the lead to take it back.",
          "site"),
    Entry("thread.declined", "Your hospital has declined this already.",
          "Write a message to add to it; or say that the hospital may take part after all.", "site"),
    Entry("thread.not_declined", "There is no decline to take back.",
          "Sign at the hospital: python -m site_agent approve", "site"),
    Entry("thread.altered", "The text of message {number} does not fit the hash that stands in the log.",
          "Somebody has changed it at the coordinator. Do not rely on it; ask the other side by another "
          "channel, and tell the auditor.", "operator"),
    Entry("thread.unknown", "No study that asks this hospital has this fingerprint: {fingerprint}.",
          "`python -m site_agent thread` lists them.", "site"),
)  # fmt: skip
