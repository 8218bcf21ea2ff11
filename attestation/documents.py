"""The two signed documents of collateral: TCB info v3 and quoting enclave identity v2.

They are read strictly: an unknown or doubled field is refused, because a field that we do not understand
could be a condition.

Source: formats: Intel, "API Documentation v4" (PCS), "Get TCB Info" and "Get QE Identity".
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from contracts.refusal import Refusal

TcbStatus = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
]
PartStatus = Literal["UpToDate", "OutOfDate", "Revoked"]
Svn = Annotated[int, Meta(ge=0, le=0xFF)]
Svn16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
Number = Annotated[int, Meta(ge=0, lt=2**32)]
Moment = Annotated[str, Meta(pattern=r"\A[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}Z\Z")]
Hex2 = Annotated[str, Meta(pattern=r"\A[0-9a-fA-F]{4}\Z")]
Hex4 = Annotated[str, Meta(pattern=r"\A[0-9a-fA-F]{8}\Z")]
Hex6 = Annotated[str, Meta(pattern=r"\A[0-9a-fA-F]{12}\Z")]
Hex8 = Annotated[str, Meta(pattern=r"\A[0-9a-fA-F]{16}\Z")]
Hex16 = Annotated[str, Meta(pattern=r"\A[0-9a-fA-F]{32}\Z")]
Hex32 = Annotated[str, Meta(pattern=r"\A[0-9a-fA-F]{64}\Z")]
Hex48 = Annotated[str, Meta(pattern=r"\A[0-9a-fA-F]{96}\Z")]
Advisory = Annotated[str, Meta(min_length=1, max_length=64)]


class Component(Struct, forbid_unknown_fields=True, frozen=True):
    """The SVN of one of 16 TCB components; category and type are words for people."""

    svn: Svn
    category: str = ""
    type: str = ""


Components = Annotated[tuple[Component, ...], Meta(min_length=16, max_length=16)]


class Tcb(Struct, forbid_unknown_fields=True, frozen=True):
    """The SVNs that a platform must reach for a level."""

    sgxtcbcomponents: Components
    pcesvn: Svn16
    tdxtcbcomponents: Components | None = None

    @property
    def sgx(self) -> bytes:
        """The 16 SGX component SVNs."""
        return bytes(component.svn for component in self.sgxtcbcomponents)

    @property
    def tdx(self) -> bytes | None:
        """The 16 TDX component SVNs, in TCB info for TDX."""
        if self.tdxtcbcomponents is None:
            return None
        return bytes(component.svn for component in self.tdxtcbcomponents)


class TcbLevel(Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """A level of the platform and the status that Intel gives it."""

    tcb: Tcb
    tcb_date: Moment
    tcb_status: TcbStatus
    advisories: tuple[Advisory, ...] = msgspec.field(default=(), name="advisoryIDs")


class IsvSvn(Struct, forbid_unknown_fields=True, frozen=True):
    """The SVN that a quoting enclave or TDX module must reach for a level."""

    isvsvn: Svn16


class PartLevel(Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """A level of a part: the quoting enclave, or the TDX module."""

    tcb: IsvSvn
    tcb_date: Moment
    tcb_status: PartStatus
    advisories: tuple[Advisory, ...] = msgspec.field(default=(), name="advisoryIDs")


class TdxModule(Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """Whose TDX module it must be: MRSIGNERSEAM, and SEAMATTRIBUTES under a mask."""

    mrsigner: Hex48
    attributes: Hex8
    attributes_mask: Hex8


class TdxModuleIdentity(Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """The same for one major version of the module (`id` is TDX_ and its hex), with levels of its own."""

    id: str
    mrsigner: Hex48
    attributes: Hex8
    attributes_mask: Hex8
    tcb_levels: Annotated[tuple[PartLevel, ...], Meta(min_length=1)]


class TcbInfo(Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """TCB info v3 of one family of platforms (FMSPC, PCEID)."""

    id: Literal["SGX", "TDX"]
    version: Literal[3]
    issue_date: Moment
    next_update: Moment
    fmspc: Hex6
    pce_id: Hex2
    tcb_type: Literal[0]
    tcb_evaluation_data_number: Number
    tcb_levels: Annotated[tuple[TcbLevel, ...], Meta(min_length=1)]
    tdx_module: TdxModule | None = None
    tdx_module_identities: tuple[TdxModuleIdentity, ...] = ()


class QeIdentity(Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """Identity v2 of the quoting enclave for SGX (QE) or TDX (TD_QE)."""

    id: Literal["QE", "TD_QE"]
    version: Literal[2]
    issue_date: Moment
    next_update: Moment
    tcb_evaluation_data_number: Number
    miscselect: Hex4
    miscselect_mask: Hex4
    attributes: Hex16
    attributes_mask: Hex16
    mrsigner: Hex32
    isvprodid: Svn16
    tcb_levels: Annotated[tuple[PartLevel, ...], Meta(min_length=1)]


S = TypeVar("S", TcbInfo, QeIdentity)


def read_signed(text: bytes, kind: type[S]) -> S:
    """Read a signed JSON text strictly.

    Raises: `attest.tcb_info_malformed` or `attest.qe_identity_malformed`.
    """
    code = "attest.tcb_info_malformed" if kind is TcbInfo else "attest.qe_identity_malformed"
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
        document = msgspec.convert(value, type=kind)
        for date in (document.issue_date, document.next_update):
            unix(date)
    except (ValueError, RecursionError) as error:  # msgspec.ValidationError is a ValueError
        raise Refusal(code, found=str(error)[:200]) from error
    return document


def unix(moment: str) -> int:
    """Unix seconds of a `Moment`. ValueError where the calendar has no such day."""
    return int(datetime.fromisoformat(moment).timestamp())


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
