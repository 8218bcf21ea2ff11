"""The TCB status is what Intel's rules give; dcap-qvl, which follows them too, is never of another mind."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from attestation import second_opinion, tcb
from attestation.checks import CHECKS
from attestation.checks.examination import Examination
from attestation.development_quoting import constants as dev
from contracts.refusal import Refusal
from tests.attest.workshop import AT

STATUSES = [
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
]
PARTS = ["UpToDate", "OutOfDate", "Revoked"]
ADVISORIES = st.lists(st.sampled_from(["INTEL-SA-1", "INTEL-SA-2", "INTEL-SA-3"]), max_size=2, unique=True)


@pytest.mark.parametrize(
    ("platform", "parts", "merged"),
    [
        ("UpToDate", ["UpToDate"], "UpToDate"),
        ("UpToDate", ["OutOfDate"], "OutOfDate"),
        ("SWHardeningNeeded", ["OutOfDate"], "OutOfDate"),
        ("ConfigurationNeeded", ["UpToDate", "OutOfDate"], "OutOfDateConfigurationNeeded"),
        ("ConfigurationAndSWHardeningNeeded", ["OutOfDate"], "OutOfDateConfigurationNeeded"),
        ("OutOfDateConfigurationNeeded", ["OutOfDate"], "OutOfDateConfigurationNeeded"),
        ("OutOfDate", ["UpToDate"], "OutOfDate"),
        ("UpToDate", ["OutOfDate", "Revoked"], "Revoked"),
        ("Revoked", ["OutOfDate"], "Revoked"),
    ],
)
def test_statuses_merge_as_in_intels_library(platform, parts, merged):
    assert tcb.merge(platform, parts) == merged


@st.composite
def near(draw, svns):
    """SVNs at or beside those of the platform, so that levels are often just reached or just missed."""
    changed = bytearray(svns)
    for _ in range(draw(st.integers(0, 2))):
        i = draw(st.integers(0, 9))
        changed[i] = max(0, changed[i] + draw(st.sampled_from([-1, 1])))
    return bytes(changed)


@st.composite
def levels(draw, tee):
    made = []
    for _ in range(draw(st.integers(1, 4))):
        level = {
            "tcb": {
                "sgxtcbcomponents": [{"svn": svn} for svn in draw(near(dev.SGX_COMPONENTS))],
                "pcesvn": dev.PCE_SVN + draw(st.integers(-2, 1)),
            },
            "tcbDate": "2026-01-01T00:00:00Z",
            "tcbStatus": draw(st.sampled_from(STATUSES)),
        }
        if tee == "tdx":
            level["tcb"]["tdxtcbcomponents"] = [{"svn": svn} for svn in draw(near(dev.TEE_TCB_SVN))]
        advisories = draw(ADVISORIES)
        made.append(level | ({"advisoryIDs": advisories} if advisories else {}))
    return made


@st.composite
def part_levels(draw, svn):
    made = []
    for least in sorted(draw(st.sets(st.integers(svn - 2, svn + 1), min_size=1)), reverse=True):
        level = {
            "tcb": {"isvsvn": least},
            "tcbDate": "2026-01-01T00:00:00Z",
            "tcbStatus": draw(st.sampled_from(PARTS)),
        }
        made.append(level | {"advisoryIDs": draw(ADVISORIES)})
    return made


@settings(deadline=None, max_examples=250)
@given(st.data())
def test_ours_and_the_second_opinion_find_the_same_status(workshop, data):
    tee = data.draw(st.sampled_from(["sgx", "tdx"]))
    quote = workshop.quote(tee)
    if tee == "tdx":
        fields = {"tee_tcb_svn": data.draw(near(dev.TEE_TCB_SVN))}
        if data.draw(st.booleans()):
            quote = replace(quote, header=quote.header._replace(version=5))
            fields |= {"tee_tcb_svn2": data.draw(near(dev.TEE_TCB_SVN)), "mrservicetd": bytes(48)}
        quote = workshop.resigned(quote, **fields)
        versions = {svn[1] for name, svn in fields.items() if name != "mrservicetd"}
        identities = data.draw(st.sets(st.sampled_from([1, 2])))
        # Where Intel names no module at all, dcap-qvl falls back to the base identity; we refuse.
        assume(identities or versions == {0})

    def change_info(value):
        value["tcbLevels"] = data.draw(levels(tee))
        if tee == "tdx":
            base = value["tdxModuleIdentities"][0]
            value["tdxModuleIdentities"] = [
                base | {"id": f"TDX_{n:02X}", "tcbLevels": data.draw(part_levels(dev.TDX_MODULE_SVN))}
                for n in sorted(identities)
            ]

    def change_identity(value):
        value["tcbLevels"] = data.draw(part_levels(dev.QE_SVN))

    collateral = workshop.document("tcb_info", change_info, tee=tee)
    collateral = workshop.document("qe_identity", change_identity, tee=tee, base=collateral)
    e = Examination(quote.encode(), collateral, AT, workshop.policy())
    try:
        for name, check in CHECKS:
            check(e)
            if name == "tcb.level":
                break
    except Refusal as refusal:
        ours = refusal.code
        assert ours in ("attest.tcb_not_supported", "attest.tdx_module", "attest.tcb_revoked")
    else:
        ours = (e.evaluation.status, set(e.evaluation.advisories))
    opinion = second_opinion.ask(e.quote, e.collateral, e.root, AT)
    theirs = (opinion.status, set(opinion.advisories)) if opinion.accepted else None
    assert theirs == (None if isinstance(ours, str) else ours), opinion.words


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_levels_are_tried_from_the_highest_down_in_whatever_order_they_stand(workshop, data):
    made = data.draw(levels("sgx"))
    heights = {str(level["tcb"]) for level in made}
    assume(len(heights) == len(made))
    orders = [made, data.draw(st.permutations(made))]
    statuses = [
        workshop.appraise(
            collateral=workshop.document("tcb_info", lambda value, order=order: value.update(tcbLevels=order))
        ).status
        for order in orders
    ]
    assert statuses[0] == statuses[1]
