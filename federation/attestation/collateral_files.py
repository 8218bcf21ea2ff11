"""Collateral in a file: QuoteCollateralV3 as JSON, as tools of every kind write it. One reader for whoever
takes a set in use and for whoever judges with it offline. Nothing of it is believed by being read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attestation.collateral import FIELDS, MAX_COLLATERAL_BYTES, PCK_CHAIN_FIELD
from contracts.refusal import Refusal

_KINDS = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}


def read_file(path: Path) -> dict[str, str]:
    """The fields that stand in the file; which of the nine are missing is the verifier's to say. A field that
    is null was left out, and what is none of Intel's fields (a version, a type) judges nothing.

    Raises: `collateral.unreadable`, which names the field that is no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_COLLATERAL_BYTES + 1)
        if len(data) > MAX_COLLATERAL_BYTES:
            raise Refusal("collateral.unreadable", fault=f"{path} has more than {MAX_COLLATERAL_BYTES} bytes")
        parsed = json.loads(data, object_pairs_hook=_once)  # which knows UTF-8 and UTF-16 by their marks
    except OSError as error:
        raise Refusal("collateral.unreadable", fault=f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise Refusal("collateral.unreadable", fault=f"{path} is not JSON: {str(error)[:200]}") from error
    if not isinstance(parsed, dict):
        raise Refusal("collateral.unreadable", fault=f"{path} is not a JSON object")
    known = {name: parsed[name] for name in (*FIELDS, PCK_CHAIN_FIELD) if parsed.get(name) is not None}
    for name, value in known.items():
        if not isinstance(value, str):
            fault = f"the field {name} of {path} is {_KINDS[type(value)]}, not a text"
            raise Refusal("collateral.unreadable", fault=fault)
    return known


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields
