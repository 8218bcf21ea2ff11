"""The API's description is complete, and says what the code does because both come from one definition."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from federation import api_urls, wire


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return SchemaGenerator(patterns=api_urls.urlpatterns).get_schema(request=None, public=True)


def test_it_is_valid_openapi(schema: dict[str, Any]) -> None:
    validate_schema(schema)


def test_every_endpoint_says_what_it_takes_gives_and_refuses(schema: dict[str, Any]) -> None:
    operations = [
        (path, method, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) == 17
    for path, method, operation in operations:
        assert operation["description"], path
        failure = operation["responses"]["4XX"]["content"]["application/json"]["schema"]
        assert "hint" in failure["properties"]
        if method == "post":
            body = operation["requestBody"]["content"]["application/json"]["schema"]
            assert body["additionalProperties"] is False, path
        assert operation.get("security", []) == ([] if path == "/enrol" else [{"agent": []}])


def test_the_form_of_keys_is_described(schema: dict[str, Any]) -> None:
    body = schema["paths"]["/enrol"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["public_key"]["pattern"] == "^[0-9a-f]{64}$"


def test_open_ends_are_flags_as_openapi_3_0_has_them() -> None:
    class Number(msgspec.Struct):
        value: Annotated[int, msgspec.Meta(ge=0, lt=10)]

    assert wire.schema(Number)["properties"]["value"] == {
        "type": "integer", "minimum": 0, "maximum": 10, "exclusiveMaximum": True,
    }  # fmt: skip
