"""How the agents' API says no: every error is one JSON object with the catalogue's words.

What is not in the catalogue is "an internal error" with a reference to the reader, and a traceback under the
same reference in the log.
"""

from __future__ import annotations

import logging
import secrets
import traceback
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError, connection
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from contracts.refusal import Refusal
from error_catalogue import CATALOGUE, explain
from federation.refusals import status_of

log = logging.getLogger(__name__)


def as_refusal(error: Exception) -> Refusal | None:
    """The refusal that an exception of Django or DRF stands for, or None if nobody foresaw it."""
    match error:
        case Refusal():
            return error if error.code in CATALOGUE else None
        case Http404() | exceptions.NotFound():
            return Refusal("request.not_found")
        case PermissionDenied() | exceptions.PermissionDenied():
            return Refusal("auth.forbidden")
        case exceptions.NotAuthenticated():
            return Refusal("auth.missing")
        case exceptions.AuthenticationFailed():
            return Refusal("auth.bad_token", fault="refused")
        case exceptions.MethodNotAllowed():
            return Refusal("request.method", method=str(error.args[0])[:16] if error.args else "?")
        case exceptions.ParseError() | exceptions.UnsupportedMediaType() | exceptions.NotAcceptable():
            return Refusal("request.invalid", fault="it is not the JSON that is expected here")
        case RequestDataTooBig():
            return Refusal("request.too_large", limit=None)
        case OperationalError() | InterfaceError() if _is_away(error):
            return Refusal("request.busy")
    return None


def _is_away(error: Exception) -> bool:
    """Whether the database serves again by itself: SQLite waits for a lock; PostgreSQL starts, recovers, or
    has closed a connection of the pool. A missing table is another kind of error there."""
    return connection.vendor == "postgresql" or "locked" in str(error)


def body_of(code: str, facts: dict[str, Any], reference: str) -> dict[str, Any]:
    """The error as agents read it: {code, message, hint, responsible, retry, facts, reference}."""
    words = explain(code, facts)
    return {
        "code": words.code,
        "message": words.message,
        "hint": words.hint,
        "responsible": words.responsible,
        "retry": words.retry,
        "facts": facts,
        "reference": reference,
    }


def report(error: BaseException) -> str:
    """Log an error that nobody foresaw and return the reference under which the operator finds it.

    The traceback's frames are logged, but not the exception's own text: it may quote what must not be logged.
    """
    reference = secrets.token_hex(6)
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("internal error, reference %s: %s\n%s", reference, type(error).__name__, frames)
    return reference


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's hook: turn any exception of a view into a response. It rolls back the view's transaction."""
    set_rollback()
    refusal = as_refusal(error)
    if refusal is None:
        return Response(body_of("internal", {}, report(error)), status=500)
    reference = secrets.token_hex(6)
    if isinstance(error, OperationalError | InterfaceError):
        # Kind and SQLSTATE alone: the text may quote what must not be logged. A full disk does not pass.
        cause = error.__cause__ or error
        state = getattr(cause, "sqlstate", None) or "-"
        log.warning("the database did not serve: %s %s, reference %s", type(cause).__name__, state, reference)
    log.info("refused %s, reference %s", refusal.code, reference)
    headers = {"WWW-Authenticate": "Bearer"} if status_of(refusal.code) == 401 else None
    return Response(
        body_of(refusal.code, refusal.facts, reference), status=status_of(refusal.code), headers=headers
    )
