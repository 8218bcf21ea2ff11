"""The agents' API reads, answers and documents by one definition: an `Endpoint`, which its agents share.

Unknown fields and wrong types are refused before a view sees anything.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from django.http import HttpResponse
from rest_framework.request import Request

from contracts.agents_api.endpoint import B, Endpoint, W
from contracts.refusal import Refusal

_EXCLUSIVE = {"maximum": "exclusiveMaximum", "minimum": "exclusiveMinimum"}
T = TypeVar("T")


def read(request: Request, endpoint: Endpoint[B, W]) -> B:
    """The request's JSON body.

    Raises: `request.invalid` and the first fault.
    """
    return read_body(request, endpoint.body)


def read_body(request: Request, kind: type[T]) -> T:
    """The request's JSON body as `kind`.

    Raises: `request.invalid` and the first fault.
    """
    if rb"\u0000" in request.body:
        raise Refusal(
            "request.invalid", fault="a text holds the character NUL, which PostgreSQL cannot store"
        )
    try:
        return msgspec.json.decode(request.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("request.invalid", fault=str(error)[:300]) from error


def answer(endpoint: Endpoint[B, W], value: W) -> HttpResponse:
    """What the endpoint answers, and nothing of another form."""
    return HttpResponse(msgspec.json.encode(value), content_type="application/json")


def schema(kind: Any) -> dict[str, Any]:
    """The type's schema as OpenAPI 3.0 has it: references written out, `nullable` for null, any names,
    patterns as ECMAScript reads them."""
    (root,), components = msgspec.json.schema_components([kind], ref_template="{name}")

    def rewrite(node: Any) -> Any:
        if isinstance(node, list):
            return [rewrite(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return rewrite(components[node["$ref"]])
        if isinstance(node.get("pattern"), str):
            # Python's \Z is ECMAScript's $: the end of the text, and no line feed before it.
            node = {**node, "pattern": node["pattern"].replace(r"\Z", "$")}
        for bound in ("maximum", "minimum"):
            if (
                open_end := _EXCLUSIVE[bound]
            ) in node:  # a number since JSON Schema 2019, a flag in OpenAPI 3.0
                node = {**node, bound: node[open_end], open_end: True}
        # OpenAPI 3.0 knows no propertyNames, and no empty list of what is required.
        kept = {
            key: value
            for key, value in node.items()
            if key != "propertyNames" and (key, value) != ("required", [])
        }
        node = {key: rewrite(value) for key, value in kept.items()}
        choices = [choice for choice in node.get("anyOf", []) if choice != {"type": "null"}]
        if len(choices) < len(node.get("anyOf", [])):
            node = {**node, "nullable": True, "anyOf": choices}
        return node

    return rewrite(root)


class ErrorBody(msgspec.Struct):
    """Every error of the agents' API. `reference` finds it in the coordinator's log."""

    code: str
    message: str
    hint: str
    responsible: str
    retry: bool
    facts: dict[str, str | int | float | bool | None]
    reference: str


ERRORS: dict[Any, Any] = {"4XX": schema(ErrorBody), "5XX": schema(ErrorBody)}


def document(endpoint: Endpoint[B, W], *, body: Any = None, or_nothing: bool = False) -> dict[str, Any]:
    """Arguments for drf-spectacular's `extend_schema`: request (`body` where it has many forms), answer
    (`or_nothing`: or 204), and the one error shape."""
    withdraws = endpoint.method == "DELETE"
    answers: dict[Any, Any] = {204: None} if withdraws else {200: schema(endpoint.answer)}
    if or_nothing:
        answers[204] = None
    takes = endpoint.method == "POST"
    request = {"application/json": schema(body or endpoint.body)} if takes else None
    return {"request": request, "responses": {**answers, **ERRORS}}
