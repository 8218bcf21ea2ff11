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

    SSL_CERT_FILE and SSL_CERT_DIR replace the system's store, as OpenSSL has it.

    Raises: `agent.bad_ca_bundle`, or `outgoing.bad_store`, which names the variable.
    """
    context = public_context(environment)
    if ca_bundle is not None:
        try:
            _load_file(context, ca_bundle)
        except (OSError, ValueError) as error:
            raise Refusal("agent.bad_ca_bundle", file=ca_bundle, fault=_why(error)) from error
    return context


def public_context(environment: Mapping[str, str] | None = None) -> ssl.SSLContext:
    """What everybody on this machine trusts: without a file that was given to us alone."""
    found = os.environ if environment is None else environment
    file, folder = found.get("SSL_CERT_FILE"), found.get("SSL_CERT_DIR")
    if not file and not folder:
        context = browsers_context()
        context.load_default_certs()
        return context
    context = _empty()
    if file:
        try:
            _load_file(context, file)
        except (OSError, ValueError) as error:
            raise _bad_store("SSL_CERT_FILE", file, error) from error
    if folder:
        try:
            next(Path(folder).iterdir(), None)
            context.load_verify_locations(capath=folder)
        except OSError as error:
            raise _bad_store("SSL_CERT_DIR", folder, error) from error
    return context


def browsers_context() -> ssl.SSLContext:
    """Only the public authorities (Mozilla's list, by certifi): nothing that this machine's owners added."""
    context = _empty()
    context.load_verify_locations(cafile=certifi.where())
    return context


def _empty() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _load_file(context: ssl.SSLContext, file: str) -> None:
    """Raises OSError (an SSLError among them) or ValueError. A pipe would be waited for, and be empty."""
    path = Path(file)
    if path.stat() and not path.is_file():
        raise ValueError("it is a folder" if path.is_dir() else "it is no ordinary file")
    context.load_verify_locations(cafile=file)


def _bad_store(variable: str, path: str, error: OSError | ValueError) -> Refusal:
    return Refusal("outgoing.bad_store", variable=variable, path=path, fault=_why(error))


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return "it holds no certificate in PEM form"
    return getattr(error, "strerror", None) or str(error)
