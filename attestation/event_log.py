"""The boot event log of a trust domain: what was measured into RTMR0 to RTMR2, one event at a time.

A register is one hash; the log says of what. Replaying it gives the register again, so the digests of a log
that replays to a quote's registers are as good as signed; what an event says about its digest is not. Format:
TCG, "PC Client Platform Firmware Profile Specification", TCG_PCR_EVENT2 after a Spec ID event; registers:
UEFI 2.10, EFI_CC_MR_INDEX; Linux shows the log as `/sys/firmware/acpi/tables/data/CCEL`. The parser runs on
bytes that a host wrote: it is bounded and knows one exception, `Refusal`.
"""

from __future__ import annotations

from dataclasses import dataclass

from attestation.quote import Cursor
from attestation.td_report import TdReport
from contracts.launch import extended
from contracts.refusal import Refusal

MAX_LOG_BYTES = 1 << 20
MAX_EVENTS = 4096
MAX_ALGORITHMS = 8
SHA384, SHA384_BYTES = 0x000C, 48
EV_NO_ACTION = 3
SPEC_ID = b"Spec ID Event03\0"
CODE = "attest.event_log_malformed"


@dataclass(frozen=True)
class MeasuredEvent:
    """One entry. `register` is 0 for MRTD, which no log extends, and n + 1 for RTMRn; `digest` is SHA-384."""

    register: int
    kind: int
    digest: bytes
    data: bytes


def read_events(data: bytes) -> tuple[MeasuredEvent, ...]:
    """The events after the Spec ID event, up to the unused rest of the log's area (all ones or all zeros).

    Raises: `attest.event_log_malformed`.
    """
    if len(data) > MAX_LOG_BYTES:
        raise Refusal(CODE, expected=f"at most {MAX_LOG_BYTES} bytes", found=f"{len(data)} bytes")
    cursor = Cursor(data, CODE)
    sizes = _spec_id(cursor)
    events: list[MeasuredEvent] = []
    while cursor.rest and not _unused(cursor.rest):
        if len(events) == MAX_EVENTS:
            raise Refusal(CODE, expected=f"at most {MAX_EVENTS} events", found="more")
        events.append(_event(cursor, sizes))
    return tuple(events)


def replay(events: tuple[MeasuredEvent, ...]) -> tuple[bytes, bytes, bytes, bytes]:
    """RTMR0 to RTMR3 after these events: each is SHA-384(register ‖ digest), from 48 zero bytes on."""
    registers = [bytes(SHA384_BYTES)] * 4
    for event in events:
        if event.kind != EV_NO_ACTION:
            registers[event.register - 1] = extended(registers[event.register - 1], event.digest)
    return registers[0], registers[1], registers[2], registers[3]


def require_replay(events: tuple[MeasuredEvent, ...], report: TdReport) -> None:
    """The log explains RTMR0 to RTMR2 of this report. RTMR3 the launcher extends (contracts/launch.py).

    Raises: `attest.event_log`.
    """
    for number, (expected, found) in enumerate(zip(report.rtmrs[:3], replay(events)[:3], strict=True)):
        if expected != found:
            raise Refusal(
                "attest.event_log", what=f"RTMR{number}", expected=expected.hex(), found=found.hex()
            )


def _spec_id(cursor: Cursor) -> dict[int, int]:
    """The first event has the form of TPM 1.2, and names the digests of those that follow."""
    cursor.u32("register of the first event")
    kind = cursor.u32("kind of the first event")
    cursor.take(20, "digest of the first event")
    head = Cursor(cursor.take(cursor.u32("size of the first event"), "first event"), CODE)
    if kind != EV_NO_ACTION or head.take(len(SPEC_ID), "signature") != SPEC_ID:
        raise Refusal(CODE, expected="a Spec ID event first", found=f"an event of kind {kind}")
    head.take(8, "version")
    count = head.u32("number of algorithms")
    if count > MAX_ALGORITHMS:
        raise Refusal(CODE, expected=f"at most {MAX_ALGORITHMS} algorithms", found=str(count))
    sizes = {head.u16("algorithm"): head.u16("digest size") for _ in range(count)}
    if sizes.get(SHA384) != SHA384_BYTES:
        raise Refusal(CODE, expected="SHA-384 digests", found="none")
    return sizes


def _event(cursor: Cursor, sizes: dict[int, int]) -> MeasuredEvent:
    register, kind = cursor.u32("register"), cursor.u32("kind")
    digests: dict[int, bytes] = {}
    count = cursor.u32("number of digests")
    for _ in range(count if count <= len(sizes) else 0):
        algorithm = cursor.u16("algorithm")
        digests[algorithm] = cursor.take(sizes.get(algorithm, MAX_LOG_BYTES), "digest")
    data = cursor.take(cursor.u32("size of the event"), "event")
    if SHA384 not in digests or len(digests) != count:
        raise Refusal(CODE, expected="each digest once, SHA-384 among them", found=f"{count} digests")
    if kind != EV_NO_ACTION and not 1 <= register <= 4:
        raise Refusal(CODE, expected="RTMR0 to RTMR3", found=f"register {register}")
    return MeasuredEvent(register, kind, digests[SHA384], data)


def _unused(rest: bytes) -> bool:
    return not rest.strip(b"\xff") or not rest.strip(b"\0")
