"""A trust domain's part of a quote: TDX quote v4 and v5 (layouts as in `quote.py`, which loads this where a
quote says that it is one of a trust domain)."""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from attestation.quote import Cursor
from contracts.refusal import Refusal

BODY_TD_10 = 2
BODY_TD_15 = 3

_TD_10 = struct.Struct("<16s48s48s8sQ8s48s48s48s48s48s48s48s48s64s")
_TD_15 = struct.Struct("<16s48s")


class TdReport(NamedTuple):
    """TD quote body, 584 bytes (TDX 1.0); with the last two fields 648 (TDX 1.5), else they are None."""

    tee_tcb_svn: bytes
    mrseam: bytes
    mrsigner_seam: bytes
    seam_attributes: bytes
    td_attributes: int
    xfam: bytes
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes
    tee_tcb_svn2: bytes | None = None
    mrservicetd: bytes | None = None

    def encode(self, version: int) -> bytes:
        """The 584 or 648 bytes; in a quote of version 5 their type and size stand before them."""
        body = _TD_10.pack(*self[:15])
        if self.tee_tcb_svn2 is not None:
            body += _TD_15.pack(*self[15:])
        kind = BODY_TD_10 if len(body) == _TD_10.size else BODY_TD_15
        return struct.pack("<HI", kind, len(body)) + body if version == 5 else body

    @property
    def measurement(self) -> str:
        """All that was measured, in hex: SHA-384(MRTD ‖ RTMR0 ‖ … ‖ RTMR3). MRTD alone is the firmware."""
        return hashlib.sha384(b"".join((self.mrtd, *self.rtmrs))).hexdigest()

    @property
    def rtmrs(self) -> tuple[bytes, bytes, bytes, bytes]:
        """The four run-time registers, 48 bytes each."""
        return (self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3)

    @property
    def tee_tcb_svns(self) -> tuple[bytes, ...]:
        """At the launch and, since TDX 1.5, now."""
        return tuple(svn for svn in (self.tee_tcb_svn, self.tee_tcb_svn2) if svn is not None)


def read_report(cursor: Cursor, version: int) -> TdReport:
    """Raises: `attest.quote_unsupported` or `attest.quote_malformed`."""
    kind, size = BODY_TD_10, _TD_10.size
    if version == 5:
        kind, size = cursor.u16("body type"), cursor.u32("body size")
        if kind not in (BODY_TD_10, BODY_TD_15):
            raise Refusal("attest.quote_unsupported", found=f"body type {kind}")
        if size != _TD_10.size + (_TD_15.size if kind == BODY_TD_15 else 0):
            raise Refusal("attest.quote_malformed", found=f"body type {kind} with {size} bytes")
    body = cursor.take(size, "TD report")
    more = _TD_15.unpack(body[_TD_10.size :]) if kind == BODY_TD_15 else ()
    return TdReport(*_TD_10.unpack(body[: _TD_10.size]), *more)
