"""Codes of the way out: proxies and trusted authorities as the environment names them (outgoing/)."""

from error_catalogue.catalogue import Entry, define

define(
    Entry("outgoing.bad_proxy", "The proxy in {variable} is not an address.",
          "Set {variable} to http://HOST:PORT, or unset it for a direct connection.", "site"),
    Entry("outgoing.proxy_kind", "The proxy in {variable} is of the kind {kind}; only HTTP proxies are used.",
          "Name an HTTP proxy in {variable}, or list the coordinator in NO_PROXY.", "site"),
    Entry("outgoing.bad_store", "{variable} names {path}, which cannot be read: {fault}.",
          "Correct {variable}, or unset it to use the authorities of this machine.", "site"),
)  # fmt: skip
