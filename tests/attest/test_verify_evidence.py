"""`python manage.py verify_evidence`: the exit code for scripts, the page for people, the JSON for tools."""

import base64
import codecs
import gzip
import hashlib
import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from django.core.management import call_command

from contracts.policy import CollateralFloor
from federation.attestation.quote_text import text_instead
from tests.attest.corpus import ABSENT, CASES, one
from tests.attest.workshop import AT

needs_corpus = pytest.mark.skipif(not CASES, reason=ABSENT)
ROOT = Path(__file__).parents[2]


def run(*arguments):
    out, err = StringIO(), StringIO()
    with pytest.raises(SystemExit) as stopped:
        call_command("verify_evidence", *map(str, arguments), stdout=out, stderr=err)
    return stopped.value.code, out.getvalue(), err.getvalue()


def files(case):
    return ["--quote", case.quote_path, "--collateral", case.collateral_path, "--at", case.at]


@needs_corpus
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_json_carries_the_verdict_and_every_check(case):
    code, out, err = run(*files(case), "--json")
    report = json.loads(out)
    assert (code, err) == (0 if case.accepted else 1, "")
    assert report["verdict"] == ("accepted" if case.accepted else "refused")
    outcomes = {check["name"]: check["outcome"] for check in report["checks"]}
    assert len(outcomes) == 34
    assert outcomes["claims.nonce"] == outcomes["report_data"] == "not applicable"
    assert report["quote_file_sha256"] == hashlib.sha256(case.quote).hexdigest()
    if case.accepted:
        assert (report["status"], report["advisories"]) == (
            case.expected["status"],
            case.expected["advisory_ids"],
        )
    else:
        assert report["message"] and report["hint"]
        assert [name for name, outcome in outcomes.items() if outcome == "fail"]


@needs_corpus
def test_the_page_can_be_read_by_people():
    accepted = run(*files(one("sgx-v3-prod-cfg")))[1]
    assert accepted.startswith("ACCEPTED as evidence")
    assert "Intel's root" in accepted
    assert "2025-07-04T10:28:44Z" in accepted
    assert "INTEL-SA-00289, INTEL-SA-00615" in accepted
    refused = run(*files(next(case for case in CASES if case.name == "tdx-v4-debug")))[1]
    assert refused.startswith("REFUSED")
    assert "its memory can be read. [attest.debug]" in refused
    assert "Build and start it without debug mode." in refused


@needs_corpus
def test_it_runs_as_a_program_with_no_database(tmp_path):
    case = one("tdx-v5")
    command = [sys.executable, "manage.py", "verify_evidence", *map(str, files(case)), "--json"]
    environment = {"PATH": "/usr/bin", "FEDSLICE_VAR": str(tmp_path / "absent"), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "accepted"


def test_development_evidence_needs_its_policy_and_is_marked(workshop, tmp_path):
    quote, collateral, policy = (tmp_path / name for name in ("quote", "collateral", "policy"))
    quote.write_bytes(workshop.quote().encode())
    collateral.write_text(json.dumps(workshop.collateral() | {"pck_certificate_chain": None}))
    floor = CollateralFloor("fed511ce0000", "platform", 1, 1, 1, 1, AT - 9999, 2, 3, 4)
    policy.write_bytes(msgspec.json.encode(workshop.policy(floors=(floor,), minimum_tcb_evaluation=1)))
    given = ["--quote", quote, "--collateral", collateral, "--at", AT]
    code, out, _ = run(*given, "--policy", policy)
    assert code == 0
    assert "DEVELOPMENT ONLY - NOT HARDWARE" in out
    assert "collateral  for fed511ce0000 (platform): TCB evaluation 1" in out
    assert (
        "floor       for fed511ce0000 (platform): TCB evaluation 1" in out and "2027-01-15T05:13:21Z" in out
    )
    assert "floor       for every platform: TCB evaluation 1" in out
    code, out, _ = run(*given, "--json")
    assert (code, json.loads(out)["code"]) == (1, "attest.root_untrusted")


@pytest.mark.parametrize(
    ("broken", "content"),
    [
        ("quote", None),
        ("collateral", None),
        ("policy", None),
        ("collateral", b"{"),
        ("collateral", b"[]"),
        ("collateral", b"\xff\xfe"),
        ("collateral", b'{"pck_crl": "", "pck_crl": ""}'),
        ("collateral", b"[" * 100_000),
        ("policy", b"{}"),
        ("policy", b"\xff"),
    ],
)
def test_unusable_input_is_told_apart_from_a_refusal(workshop, tmp_path, broken, content):
    contents = {
        "quote": workshop.quote().encode(),
        "collateral": json.dumps(workshop.collateral()).encode(),
        "policy": msgspec.json.encode(workshop.policy()),
    } | {broken: content}
    arguments = ["--at", AT]
    for name, data in contents.items():
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        arguments += [f"--{name}", path]
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Unusable input: ")
    assert str(tmp_path / broken) in err


@pytest.mark.parametrize(
    ("words", "encode"),
    [
        ("hex", lambda quote: quote.hex().encode() + b"\n"),
        ("hex", lambda quote: b"0x" + quote.hex().upper().encode()),
        ("base64", base64.encodebytes),
        ("base64 (the form for URLs)", base64.urlsafe_b64encode),
        ("base64", lambda quote: b"\r\n".join(base64.encodebytes(quote).splitlines())),
        ("hex", lambda quote: codecs.BOM_UTF8 + quote.hex().encode()),
        ("hex", lambda quote: quote.hex().encode("utf-16")),
        ("JSON", lambda quote: json.dumps({"quote": base64.urlsafe_b64encode(quote).decode()}).encode()),
        ("JSON", lambda quote: b' "' + base64.b64encode(quote) + b'"'),
        ("PEM", lambda quote: b"-----BEGIN QUOTE-----\n" + base64.encodebytes(quote)),
        ("hex", lambda quote: quote.hex(":").encode()),
        ("hex", lambda quote: ", ".join(f"0x{byte:02x}" for byte in quote).encode()),
        ("hex", lambda quote: "".join(f"\\x{byte:02x}" for byte in quote).encode()),
        (
            "a hex dump",
            lambda quote: b"00000000: 0500 0200 8100 0000 939a 7233 f79c 4ca9  ..............\n" * 9,
        ),
        (
            "a hex dump",
            lambda quote: b"00000000  05 00 02 00 81 00 00 00  93 9a 72 33 f7 9c 4c a9  |....|\n" * 9,
        ),
        ("compressed with gzip", gzip.compress),
        ("text", lambda quote: b"Quote: " + quote.hex().encode()),
        ("text", lambda quote: b"data:;base64," + base64.b64encode(quote)),
        ("text", lambda quote: repr(quote).encode()),
    ],
)
def test_a_quote_that_came_as_text_is_named_as_what_it_is(workshop, tmp_path, words, encode):
    quote, collateral = tmp_path / "quote", tmp_path / "collateral"
    quote.write_bytes(encode(workshop.quote().encode()))
    collateral.write_text(json.dumps(workshop.collateral()))
    code, out, err = run("--quote", quote, "--collateral", collateral, "--at", AT)
    assert (code, out) == (2, "")
    assert f"{quote} is {words}, not the raw quote" in err


@pytest.mark.parametrize(
    "encode",
    [
        base64.encodebytes,
        base64.urlsafe_b64encode,
        lambda quote: base64.urlsafe_b64encode(quote + b"\xfb").rstrip(b"="),
        lambda quote: b"0x" + quote.hex().encode(),
    ],
)
def test_the_way_out_that_is_named_leads_back_to_the_quote(tmp_path, encode):
    quote, file = bytes(range(256)) * 3, tmp_path / "my quote"
    file.write_bytes(encode(quote))
    reported = text_instead(file.read_bytes(), str(file)).partition("Decode it first: ")[2]
    subprocess.run(["bash", "-c", reported], cwd=tmp_path, check=True)
    assert (tmp_path / "quote.bin").read_bytes().removesuffix(b"\xfb") == quote


def test_zeros_behind_a_quote_are_cut_off_and_said(workshop, tmp_path):
    quote, collateral = tmp_path / "quote", tmp_path / "collateral"
    collateral.write_text(json.dumps(workshop.collateral()))
    given = ["--quote", quote, "--collateral", collateral, "--at", AT, "--json"]
    for padded in (b"", bytes(200)):
        quote.write_bytes(workshop.quote().encode() + padded)
        report = json.loads(run(*given)[1])
        found = next(check["found"] for check in report["checks"] if check["name"] == "quote.format")
        assert found.endswith("and 200 zeros behind it, cut off" if padded else " bytes")


def twisted(fields, **changes):
    return json.dumps({**fields, **changes}).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "with a byte order mark": lambda fields: codecs.BOM_UTF8 + twisted(fields),
        "as a shell on Windows writes it": lambda fields: json.dumps(fields).encode("utf-16"),
        "with CRLF": lambda fields: json.dumps(fields, indent=1).replace("\n", "\r\n").encode(),
        "with Intel's own struct fields": lambda fields: twisted(fields, version=3, tee_type=129),
        "with nulls": lambda fields: twisted(fields, pck_certificate_chain=None, root_ca_crl_url=None),
    }.items(),
)
def test_honest_senders_of_collateral_are_understood(workshop, tmp_path, name, content):
    quote, collateral, policy = (tmp_path / name for name in ("quote", "collateral", "policy"))
    quote.write_bytes(workshop.quote().encode())
    collateral.write_bytes(content(workshop.collateral()))
    policy.write_bytes(msgspec.json.encode(workshop.policy()))
    code, out, _ = run("--quote", quote, "--collateral", collateral, "--policy", policy, "--at", AT)
    assert code == 0, out


@pytest.mark.parametrize(
    ("changes", "exit_code", "reported"),
    [
        ({"root_ca_crl": None}, 1, "no 'root_ca_crl'"),
        ({"tcb_info": {"version": 3}}, 2, "the field tcb_info of"),
        ({"pck_crl": 7}, 2, "is a number, not a text"),
        ({"pck_crl": True}, 2, "is true or false, not a text"),
    ],
)
def test_the_field_of_the_collateral_that_is_wrong_is_named(workshop, tmp_path, changes, exit_code, reported):
    quote, collateral = tmp_path / "quote", tmp_path / "collateral"
    quote.write_bytes(workshop.quote().encode())
    collateral.write_bytes(twisted(workshop.collateral(), **changes))
    code, out, err = run("--quote", quote, "--collateral", collateral, "--at", AT)
    assert code == exit_code and reported in out + err


@pytest.mark.parametrize("at", ["-1", "0", str(2**70)])
def test_any_time_can_be_asked_about(workshop, tmp_path, at):
    quote, collateral = tmp_path / "quote", tmp_path / "collateral"
    quote.write_bytes(workshop.quote().encode())
    collateral.write_text(json.dumps(workshop.collateral()))
    assert run("--quote", quote, "--collateral", collateral, "--at", at)[0] == 1
    assert run("--quote", quote, "--collateral", collateral, "--at", at, "--json")[0] == 1


def test_an_empty_file_is_no_quote(workshop, tmp_path):
    quote, collateral = tmp_path / "quote", tmp_path / "collateral"
    quote.write_bytes(b"")
    collateral.write_text("{}")
    code, out, _ = run("--quote", quote, "--collateral", collateral, "--at", AT, "--json")
    assert (code, json.loads(out)["code"]) == (1, "attest.quote_malformed")
