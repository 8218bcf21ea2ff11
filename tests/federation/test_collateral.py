"""Collateral: fetched over real HTTP, imported, cached by hash, never older than before, never stale."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from attestation.development import collateral as made_by_root
from attestation.development import create_root, revoke_platform
from attestation.offline import appraise_offline
from contracts.canonical import digest
from contracts.refusal import Refusal
from federation.attestation import collateral, floors, pcs
from federation.attestation.models import CollateralSet, PlatformKind, Root
from federation.upkeep import forget_expired
from tests.federation.cast import Hospital
from tests.federation.development import make_platform
from tests.federation.recorded import Recorded, needs_corpus, recorded, serving

pytestmark = pytest.mark.django_db

SGX = ("sgx-v3-prod-swhardening-processorca", "collateral-2025-02-11.json")
SGX_LATER = ("sgx-v3-prod-swhardening-processorca", "collateral-2025-03-28.json")
TDX = ("tdx-v4-uptodate-then-outofdate", "collateral-2025-06-19.json")
TDX_LATER = ("tdx-v4-uptodate-then-outofdate", "collateral-2026-03-01.json")


def refused(action: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        action()
    return refusal.value.code


@needs_corpus
class TestService:
    @pytest.mark.parametrize("case", [SGX, TDX])
    @pytest.mark.parametrize("form", ["der", "hex"])
    def test_what_is_fetched_is_what_intel_signed(
        self, case: tuple[str, str], form: str, settings: Any
    ) -> None:
        known = recorded(*case)
        tee = json.loads(known.fields["tcb_info"])["id"].lower()
        collateral.want(tee, known.fmspc, known.ca)
        with serving(known.fields, crl=form) as service:
            settings.PCCS_URL = service.url
            assert pcs.refresh(known.at) == {"fetched": 1, "failed": 0}
        row = CollateralSet.objects.get()
        assert collateral.fields_of(row) == known.fields and row.pk == digest(known.fields)
        assert (row.root, row.tee, row.fmspc, row.ca, row.source) == (
            "intel", tee, known.fmspc, known.ca, service.url,
        )  # fmt: skip
        # The verifier comes to the same verdict by it as by the recorded file.
        by_cache = collateral.for_quote(known.quote, Root.INTEL, known.at)
        assert appraise_offline(known.quote, by_cache, known.at).verdict == "accepted"

    def test_intels_own_service_has_no_rootcacrl_and_the_pinned_root_says_where_it_is(self) -> None:
        known = recorded(*SGX)
        address = pcs.root_crl_address(known.fields["pck_crl_issuer_chain"])
        assert address == "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
        with serving(known.fields, has_root_crl=False) as service, httpx.Client() as client:
            # The distribution point of Intel's root, answered here.
            client.event_hooks["request"] = [_redirected(service.url)]
            assert pcs.fetch(client, service.url, "sgx", known.fmspc, known.ca) == known.fields
        assert service.asked[-1] == "/root.crl"

    def test_another_root_is_not_asked_where_its_crl_is(self, settings: Any) -> None:
        create_root(settings.DEVELOPMENT_ROOT_DIR)
        ours = made_by_root(settings.DEVELOPMENT_ROOT_DIR, int(time.time()))
        code = refused(lambda: pcs.root_crl_address(ours["pck_crl_issuer_chain"]))
        assert code == "attest.root_untrusted"

    def test_a_service_that_fails_leaves_the_old_set_in_use_and_says_why(self, settings: Any) -> None:
        known = recorded(*SGX)
        kept = collateral.take(known.fields, source="file", at=known.at)
        collateral.want("sgx", known.fmspc, known.ca)
        with serving(known.fields) as service:
            settings.PCCS_URL = service.url
        assert pcs.refresh(known.at) == {"fetched": 0, "failed": 1}
        assert PlatformKind.objects.get().fault == "collateral.unreachable"
        assert CollateralSet.objects.get() == kept

    def test_a_kind_that_failed_is_tried_again_soon_and_one_that_holds_twice_a_day(
        self, settings: Any
    ) -> None:
        known = recorded(*SGX)
        collateral.want("sgx", known.fmspc, known.ca)
        with serving({**known.fields, "pck_crl": known.fields["root_ca_crl"]}) as service:
            settings.PCCS_URL = service.url
            assert pcs.refresh(known.at)["failed"] == 1
            assert pcs.refresh(known.at) == {"fetched": 0, "failed": 0}  # not due yet
            PlatformKind.objects.update(tried_at=timezone.now() - timedelta(minutes=11))
            service.served = known.fields
            assert pcs.refresh(known.at)["fetched"] == 1
            CollateralSet.objects.update(expires=timezone.now() + timedelta(days=9))
            PlatformKind.objects.update(tried_at=timezone.now() - timedelta(hours=11))
            assert pcs.refresh(known.at) == {"fetched": 0, "failed": 0}
            PlatformKind.objects.update(tried_at=timezone.now() - timedelta(hours=13))
            assert pcs.refresh(known.at)["fetched"] == 1

    @pytest.mark.parametrize(
        ("field", "change", "code"),
        [
            ("tcb_info", lambda text: text.replace('"svn":', '"svn": ', 1), "attest.tcb_info_signature"),
            ("qe_identity", lambda text: text.replace("QE", "XX", 1), "attest.qe_identity_malformed"),
            ("tcb_info_signature", lambda text: "0" * 128, "attest.tcb_info_signature"),
            ("root_ca_crl", lambda text: text[:-4] + "0000", "attest.crl_issuer"),
            ("tcb_info_issuer_chain", lambda text: "nothing", "attest.certificate_malformed"),
        ],
    )
    def test_what_was_changed_on_the_way_is_not_kept(
        self, field: str, change: Any, code: str, settings: Any
    ) -> None:
        known = recorded(*SGX)
        collateral.want("sgx", known.fmspc, known.ca)
        with serving({**known.fields, field: change(known.fields[field])}) as service:
            settings.PCCS_URL = service.url
            pcs.refresh(known.at)
        assert PlatformKind.objects.get().fault == code
        assert not CollateralSet.objects.exists()

    def test_without_an_address_nothing_is_asked(self, settings: Any) -> None:
        collateral.want("sgx", "00906ed50000", "processor")
        assert settings.PCCS_URL == ""
        assert pcs.refresh() == {"fetched": 0, "failed": 0}
        with pytest.raises(CommandError, match="FEDSLICE_PCCS"):
            call_command("refresh_collateral")


def _redirected(base: str) -> Any:
    def hook(request: httpx.Request) -> None:
        if request.url.host == "certificates.trustedservices.intel.com":
            request.url = httpx.URL(f"{base}/root.crl")
            request.headers["Host"] = request.url.netloc.decode()

    return hook


@needs_corpus
class TestCache:
    @pytest.mark.parametrize(("first", "second"), [(SGX, SGX_LATER), (TDX, TDX_LATER)])
    def test_an_older_set_never_replaces_a_newer_one(
        self, first: tuple[str, str], second: tuple[str, str]
    ) -> None:
        old, new = recorded(*first), recorded(*second)
        collateral.take(old.fields, source="file", at=old.at)
        used = collateral.take(new.fields, source="file", at=new.at)
        assert refused(lambda: collateral.take(old.fields, source="file", at=old.at)) == "collateral.older"
        assert collateral.in_use() == [used]
        assert collateral.take(new.fields, source="again", at=new.at) == used

    def test_freezing_for_hardware_takes_the_newest_known_set_as_floor_and_wants_one(self) -> None:
        old, new = recorded(*SGX), recorded(*SGX_LATER)
        assert refused(lambda: floors.at_freeze(Root.INTEL, "sgx", new.at)) == "study.no_collateral"
        for known in (old, new):
            collateral.take(known.fields, source="file", at=known.at)
        (floor,) = floors.at_freeze(Root.INTEL, "sgx", new.at)
        info = json.loads(new.fields["tcb_info"])
        issued = datetime.fromisoformat(info["issueDate"]).timestamp()
        assert (floor.fmspc, floor.ca, floor.tcb_info_issued) == (new.fmspc, new.ca, int(issued))
        assert floor.tcb_evaluation == info["tcbEvaluationDataNumber"] == 17
        assert refused(lambda: floors.at_freeze(Root.INTEL, "tdx", new.at)) == "study.no_collateral"

    def test_stale_collateral_is_neither_taken_nor_given_to_the_second(self) -> None:
        known = recorded(*SGX)
        row = collateral.take(known.fields, source="file", at=known.at)
        end = int(row.expires.timestamp())
        where = (Root.INTEL, "sgx", known.fmspc, known.ca)
        assert collateral.for_platform(*where, end - 1) == known.fields
        for action in (
            lambda: collateral.for_platform(*where, end),
            lambda: collateral.for_quote(known.quote, Root.INTEL, end),
            lambda: collateral.take(known.fields, source="file", at=end),
        ):
            assert refused(action) == "collateral.stale"
        start = max(part["start"] for part in row.parts)
        early = refused(lambda: collateral.take(known.fields, source="file", at=start - 1))
        assert early == "collateral.from_the_future"

    def test_a_platform_that_nobody_knew_is_fetched_for_from_then_on(self) -> None:
        known = recorded(*TDX)
        code = refused(lambda: collateral.for_quote(known.quote, Root.INTEL, known.at))
        assert code == "collateral.none"
        kind = PlatformKind.objects.get()
        assert (kind.tee, kind.fmspc, kind.ca) == ("tdx", known.fmspc, known.ca)

    def test_an_agent_on_hardware_is_answered_from_the_cache(self, anna: Hospital, monkeypatch: Any) -> None:
        known: Recorded = recorded(*SGX)
        anna.site.runtime = "sgx"
        anna.site.save()
        collateral.take(known.fields, source="file", at=known.at)
        address = f"collateral?fmspc={known.fmspc}&ca={known.ca}"
        assert anna.call("get", address).json()["code"] == "collateral.stale"
        monkeypatch.setattr("federation.attestation.api.time", SimpleNamespace(time=lambda: known.at))
        for path in (address, "collateral"):
            assert anna.call("get", path).json() == {"sgx": known.fields, "tdx": None}
        assert anna.call("get", "collateral?fmspc=x&ca=platform").json()["code"] == "request.invalid"
        other = anna.call("get", "collateral?fmspc=00606a000000&ca=platform").json()
        assert (other["code"], other["retry"]) == ("collateral.none", True)


class TestDevelopment:
    def test_it_goes_through_the_same_door_and_stands_in_the_calendar(self, anna: Hospital) -> None:
        reported = anna.call("get", "collateral").json()
        rows = {row.tee: row for row in collateral.in_use()}
        assert {tee: row.pk for tee, row in rows.items()} == {
            tee: digest(reported[tee]) for tee in ("sgx", "tdx")
        }
        assert all(row.root == Root.DEVELOPMENT for row in rows.values())

    def test_a_revocation_is_in_the_next_set_at_once_and_only_the_newest_is_kept(
        self, settings: Any, tmp_path: Path
    ) -> None:
        now = int(time.time())
        before = collateral.development("sgx", now)
        revoke_platform(settings.DEVELOPMENT_ROOT_DIR, make_platform(settings, tmp_path).pck_chain, at=now)
        after = collateral.development("sgx", now + 1)
        assert after["pck_crl"] != before["pck_crl"]
        assert [row.pk for row in CollateralSet.objects.all()] == [digest(after)]


class TestFiles:
    def test_a_set_from_a_file_is_in_use(self, settings: Any, tmp_path: Path, capsys: Any) -> None:
        create_root(settings.DEVELOPMENT_ROOT_DIR)
        fields = made_by_root(settings.DEVELOPMENT_ROOT_DIR, int(time.time()))
        path = tmp_path / "collateral.json"
        # Some tools write what they leave out as null, add Intel's own struct fields, or a mark in front.
        path.write_text(json.dumps(fields | {"pck_certificate_chain": None, "tee_type": 0}), "utf-8-sig")
        call_command("import_collateral", path)
        assert "In use for SGX" in capsys.readouterr().out
        assert CollateralSet.objects.get().source == "file collateral.json"

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            ("[]", "collateral.unreadable"),
            ('{"tcb_info": 7}', "collateral.unreadable"),
            ('{"pck_crl": "", "pck_crl": ""}', "collateral.unreadable"),
            ("[" * 100_000, "collateral.unreadable"),
            ("{}", "attest.collateral_malformed"),
        ],
    )
    def test_what_is_no_collateral_is_refused(self, content: str, code: str, tmp_path: Path) -> None:
        path = tmp_path / "collateral.json"
        path.write_text(content)
        with pytest.raises(CommandError, match=code.replace(".", r"\.")):
            call_command("import_collateral", path)
        with pytest.raises(CommandError, match=r"collateral\.unreadable"):
            call_command("import_collateral", tmp_path / "absent.json")

    @needs_corpus
    def test_a_set_that_has_ended_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "collateral.json"
        path.write_text(json.dumps(recorded(*SGX).fields))
        with pytest.raises(CommandError, match=r"collateral\.stale"):
            call_command("import_collateral", path)
        assert not CollateralSet.objects.exists()


@needs_corpus
def test_upkeep_forgets_what_was_replaced_and_has_ended() -> None:
    old, new = recorded(*SGX), recorded(*SGX_LATER)
    collateral.take(old.fields, source="file", at=old.at)
    used = collateral.take(new.fields, source="file", at=new.at)
    assert forget_expired()["collateral"] == 1
    # The one in use stays, though it has ended too: the calendar must show that.
    assert list(CollateralSet.objects.all()) == [used]
