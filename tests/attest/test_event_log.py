"""A boot event log is believed where it replays to the registers of a quote, and is read with care."""

import hashlib
import json
import struct
from io import StringIO

import msgspec
import pytest
from django.core.management import call_command
from hypothesis import given
from hypothesis import strategies as st

from attestation.event_log import MAX_EVENTS, MAX_LOG_BYTES, extended, read_events, replay, require_replay
from attestation.quote import Quote
from contracts.policy import TdxReference
from contracts.refusal import Refusal
from tests.attest.workshop import AT, EVENT_LOG

ALGORITHMS = {0x000B: 32, 0x000C: 48}


def first(kind=3, signature=b"Spec ID Event03\0", algorithms=ALGORITHMS):
    """The Spec ID event (TCG PC Client Platform Firmware Profile, TCG_EfiSpecIDEvent)."""
    body = signature + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(algorithms))
    body += b"".join(struct.pack("<HH", *pair) for pair in algorithms.items()) + b"\0"
    return struct.pack("<II20sI", 1, kind, bytes(20), len(body)) + body


def event(register, data, kind=0x80000001, digests=None):
    digests = digests or [(0x000B, hashlib.sha256(data).digest()), (0x000C, hashlib.sha384(data).digest())]
    listed = b"".join(struct.pack("<H", name) + digest for name, digest in digests)
    return struct.pack("<III", register, kind, len(digests)) + listed + struct.pack("<I", len(data)) + data


BOOT = [(1, b"firmware"), (1, b"secure boot off"), (2, b"kernel"), (3, b"command line"), (3, b"initrd")]
LOG = first() + b"".join(event(*one) for one in BOOT) + event(1, b"a note", kind=3)


def code(data):
    with pytest.raises(Refusal) as refused:
        read_events(data)
    return refused.value.code


def test_replay_extends_each_register_by_its_own_events_in_their_order():
    def digest(data):
        return hashlib.sha384(data).digest()

    rtmr0, rtmr1, rtmr2, rtmr3 = replay(read_events(LOG))
    assert rtmr1 == digest(bytes(48) + digest(b"kernel"))
    assert rtmr0 == digest(digest(bytes(48) + digest(b"firmware")) + digest(b"secure boot off"))
    assert rtmr2 == extended(extended(bytes(48), digest(b"command line")), digest(b"initrd"))
    assert rtmr3 == bytes(48)


@pytest.mark.parametrize("rest", [b"", b"\xff" * 4096, bytes(4096)])
def test_the_unused_rest_of_the_logs_area_is_no_event(rest):
    assert len(read_events(LOG + rest)) == len(BOOT) + 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        LOG[:-1],
        first(kind=4) + event(1, b"x"),
        first(signature=b"Spec ID Event02\0"),
        first(algorithms={0x000B: 32}),
        first(algorithms={0x000C: 32}),
        first(algorithms=dict.fromkeys(range(12, 40), 48)),
        first() + event(0, b"MRTD"),
        first() + event(5, b"no such register"),
        first() + event(1, b"x", digests=[(0x000B, bytes(32))]),
        first() + event(1, b"x", digests=[(0x000C, bytes(48))] * 2),
        first() + event(1, b"x", digests=[(0x0010, bytes(48))]),
        first() + struct.pack("<III", 1, 1, 2**32 - 1) + bytes(100) + b"\1",
        first() + event(1, b"x") * (MAX_EVENTS + 1),
        bytes(MAX_LOG_BYTES + 1),
    ],
)
def test_a_damaged_log_is_refused(data):
    assert code(data) == "attest.event_log_malformed"


@given(st.binary(max_size=400), st.integers(0, len(LOG)))
def test_whatever_a_host_writes_is_read_or_refused(noise, at):
    for data in (noise, LOG[:at] + noise, LOG[:at] + noise + LOG[at:]):
        try:
            replay(read_events(data))
        except Refusal as refusal:
            assert refusal.code == "attest.event_log_malformed"


def booted(workshop) -> Quote:
    rtmr0, rtmr1, rtmr2, _ = replay(read_events(LOG))
    return workshop.resigned(workshop.quote("tdx"), rtmr0=rtmr0, rtmr1=rtmr1, rtmr2=rtmr2)


def test_another_log_than_the_quotes_is_refused(workshop):
    report = booted(workshop).report
    require_replay(read_events(LOG), report)
    swapped = first() + b"".join(event(*one) for one in reversed(BOOT))
    for other in (swapped, first(), LOG + event(2, b"a module")):
        with pytest.raises(Refusal) as refused:
            require_replay(read_events(other), report)
        assert refused.value.code == "attest.event_log"


def test_verify_evidence_replays_a_log_beside_the_quote(workshop, tmp_path):
    quote = booted(workshop)
    rtmrs = tuple(register.hex() for register in quote.report.rtmrs)
    policy = workshop.policy(TdxReference("aggregator", mrtd=quote.report.mrtd.hex(), rtmrs=rtmrs))
    files = {
        "quote": quote.encode(),
        "collateral": json.dumps(workshop.collateral("tdx")).encode(),
        "policy": msgspec.json.encode(policy),
        "launches": EVENT_LOG.encode(),
    }
    arguments = ["--at", str(AT)]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        arguments += [f"--{name}", str(tmp_path / name)]

    def run(log):
        (tmp_path / "log").write_bytes(log)
        out, err = StringIO(), StringIO()
        with pytest.raises(SystemExit) as stopped:
            event_log = ["--event-log", str(tmp_path / "log")]
            call_command("verify_evidence", *arguments, *event_log, stdout=out, stderr=err)
        return stopped.value.code, err.getvalue()

    assert run(LOG) == (0, "Event log: 6 events replay to RTMR0, RTMR1 and RTMR2 of the quote.\n")
    refused = run(LOG + event(2, b"a module"))
    assert refused[0] == 1 and "[attest.event_log]" in refused[1]
    (tmp_path / "quote").write_bytes(workshop.quote().encode())
    assert run(LOG)[0] == 2
