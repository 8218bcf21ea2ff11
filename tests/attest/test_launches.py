"""What was started in a trust domain: the launcher's event log, replayed to RTMR3, and judged."""

import hashlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.canonical import canonical
from contracts.evidence import MAX_EVENT_LOG
from contracts.launch import MAX_EVENTS, launch, read_launches, rtmr3_after
from contracts.policy import TdxReference
from contracts.refusal import Refusal
from tests.attest.workshop import CLAIMS, EVENT_LOG, LAUNCH, TDX

OTHER = launch("split_server", "3c" * 32, "2f" * 32)
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
LAUNCHES = st.lists(
    st.builds(launch, st.sampled_from(["aggregator", "client_slice", "split_server"]), HASHES, HASHES),
    min_size=1,
    max_size=6,
)

# Drawing is slow on a busy machine only.
busy = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def log_of(*launches) -> str:
    return "".join(canonical(one).decode() + "\n" for one in launches)


def register(*launches) -> bytes:
    return rtmr3_after(*(one.digest for one in launches))


def verdict(workshop, *started, log=None, policy=None, **options):
    """Of a trust domain in which these were started, and which shows `log`; the policy names its RTMR3."""
    quote = workshop.resigned(workshop.quote("tdx"), rtmr3=register(*started))
    rtmrs = (*TDX.rtmrs[:3], quote.report.rtmr3.hex())
    policy = policy or workshop.policy(TdxReference("aggregator", mrtd=TDX.mrtd, rtmrs=rtmrs))
    log = log_of(*started) if log is None else log
    return workshop.code(quote, tee="tdx", policy=policy, event_log=log, **options)


@busy
@given(LAUNCHES)
def test_a_log_reads_back_and_replays_step_by_step(launches):
    assert list(read_launches(log_of(*launches))) == launches
    value = bytes(48)
    for one in launches:
        value = hashlib.sha384(value + hashlib.sha384(canonical(one)).digest()).digest()
    assert register(*launches) == value


@busy
@given(LAUNCHES, st.data())
def test_a_log_with_one_event_out_of_place_replays_to_another_register(launches, data):
    """Swapped, omitted, doubled, or changed in one field."""
    at = data.draw(st.integers(0, len(launches) - 1))
    other = data.draw(st.integers(0, len(launches) - 1))
    changed = {
        "omitted": launches[:at] + launches[at + 1 :],
        "doubled": [*launches[:at], launches[at], *launches[at:]],
        "argv": [*launches[:at], replace(launches[at], argv=(*launches[at].argv, "-i")), *launches[at + 1 :]],
        "program": [*launches[:at], replace(launches[at], program="shell"), *launches[at + 1 :]],
        "measurement": [*launches[:at], replace(launches[at], measurement="00" * 32), *launches[at + 1 :]],
        "packages": [*launches[:at], replace(launches[at], packages="00" * 32), *launches[at + 1 :]],
    }
    swapped = list(launches)
    swapped[at], swapped[other] = swapped[other], swapped[at]
    for events in (*changed.values(), swapped):
        assert (register(*events) == register(*launches)) is (list(events) == launches)


@busy
@given(st.text(max_size=200))
def test_no_text_that_was_not_written_by_a_launcher_is_read(text):
    with pytest.raises(Refusal) as refused:
        read_launches(text)
    assert refused.value.code == "attest.launches_malformed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        EVENT_LOG[:-1],
        EVENT_LOG + "{",
        EVENT_LOG * (MAX_EVENTS + 1),
        EVENT_LOG.replace('"argv"', ' "argv"'),
        EVENT_LOG.replace('"program":', '"more":1,"program":'),
        EVENT_LOG.replace('"domain"', '"domain":"x","domain"'),
        EVENT_LOG.replace("launch/v1", "launch/v2"),
        EVENT_LOG.replace("1e1e", "1E1E"),
        json.dumps(json.loads(EVENT_LOG)) + "\n",
        "[" * 5000 + "\n",
    ],
)
def test_a_log_in_any_other_form_is_refused(text):
    with pytest.raises(Refusal) as refused:
        read_launches(text)
    assert refused.value.code == "attest.launches_malformed"


def test_the_program_that_the_policy_names_is_accepted(workshop):
    assert verdict(workshop, LAUNCH) is None
    assert len(log_of(*[LAUNCH] * MAX_EVENTS)) < MAX_EVENT_LOG


def test_an_ordinary_process_of_the_trust_domain_proves_no_program(workshop):
    """Nothing was started by a launcher: RTMR3 is zero, and even a policy that names it so is no help."""
    assert verdict(workshop, log="") == "attest.launches_malformed"
    assert verdict(workshop, log=EVENT_LOG) == "attest.event_log"
    quote = workshop.resigned(workshop.quote("tdx"), rtmr3=bytes(48))
    assert workshop.code(quote, tee="tdx", event_log=None) == "attest.launches_missing"


def test_without_the_log_there_is_no_acceptance_though_the_register_is_right(workshop):
    assert workshop.code(tee="tdx", event_log=None) == "attest.launches_missing"


@pytest.mark.parametrize(
    "log",
    [log_of(OTHER), log_of(OTHER, LAUNCH), log_of(LAUNCH, LAUNCH), log_of(replace(LAUNCH, argv=("sh",)))],
    ids=["swapped", "one more", "doubled", "argv"],
)
def test_a_log_that_does_not_explain_the_register_is_refused(workshop, log):
    assert verdict(workshop, LAUNCH, log=log) == "attest.event_log"


@pytest.mark.parametrize("started", [(LAUNCH, OTHER), (OTHER, LAUNCH), (LAUNCH, LAUNCH)])
def test_a_second_program_beside_it_is_refused_though_a_policy_names_the_register(workshop, started):
    assert verdict(workshop, *started) == "attest.launches"
    assert verdict(workshop, *started, log=log_of(LAUNCH)) == "attest.event_log"


def test_the_keys_of_one_program_cannot_claim_to_be_anothers(workshop):
    """The policy is at fault, too: it names the register of the one for the other."""
    assert verdict(workshop, OTHER) == "attest.launched_program"
    assert CLAIMS.program == "aggregator"


@pytest.mark.parametrize(
    "changed",
    [
        {"argv": (*LAUNCH.argv[:-1], "/elsewhere")},
        {"measurement": "00" * 32},
        {"packages": "00" * 32},
        {"argv": ("python3", "-i", *LAUNCH.argv[1:])},
    ],
)
def test_another_command_line_closure_or_lock_is_none_that_the_policy_lists(workshop, changed):
    assert verdict(workshop, replace(LAUNCH, **changed), policy=workshop.policy()) == "attest.measurement"


def test_an_sgx_enclave_has_no_such_log(workshop):
    assert workshop.code(event_log=None) is None
