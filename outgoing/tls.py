"""Whom outgoing TLS trusts: the system's store, certifi's, and what the environment or a person adds."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

import certifi

from contracts.refusal import Refusal


def tls_context(ca_bundle: str | None = None, environment: Mapping[str, str] | None = None) -> ssl.SSLContext:
    """The one context of checks and transport. `ca_bundle` is a file of PEM certificates.

    SSL_CERT_FILE and SSL_CERT_DIR replace the system's store, as OpenSSL has it. Refuses with
    `agent.bad_ca_bundle`, or `outgoing.bad_store`, which names the variable.
    """
    found = os.environ if environment is None else environment
    context = public_context(found)
    if ca_bundle is not None:
        try:
            context.load_verify_locations(cafile=ca_bundle)
        except OSError as error:  # ssl.SSLError is one
            raise Refusal("agent.bad_ca_bundle", file=ca_bundle, fault=_why(error)) from error
    return context


def public_context(environment: Mapping[str, str] | None = None) -> ssl.SSLContext:
    """What everybody on this machine trusts: without a file that was given to us alone."""
    found = os.environ if environment is None else environment
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    file, folder = found.get("SSL_CERT_FILE"), found.get("SSL_CERT_DIR")
    if file:
        _load(context, "SSL_CERT_FILE", cafile=file)
    if folder:
        if not Path(folder).is_dir():
            raise Refusal("outgoing.bad_store", variable="SSL_CERT_DIR", path=folder, fault="no such folder")
        _load(context, "SSL_CERT_DIR", capath=folder)
    if not file and not folder:
        context.load_default_certs()
        context.load_verify_locations(cafile=certifi.where())
    return context


def _load(context: ssl.SSLContext, variable: str, **where: str) -> None:
    try:
        context.load_verify_locations(**where)
    except OSError as error:
        path = next(iter(where.values()))
        raise Refusal("outgoing.bad_store", variable=variable, path=path, fault=_why(error)) from error


def _why(error: OSError) -> str:
    return error.strerror or getattr(error, "reason", "") or type(error).__name__
