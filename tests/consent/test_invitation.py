"""The letter to a hospital names the key that its agent's files are verified by."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from federation.people import services
from federation.people.models import Role, User
from federation.people.release_key import fingerprint
from federation.sites.models import Site


@pytest.fixture
def key(tmp_path: Path, settings: Any) -> Path:
    private = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(private)], check=True)
    public = tmp_path / "release.pub"
    public.write_bytes(private.with_suffix(".pub").read_bytes())
    settings.WHEELHOUSE = str(tmp_path)
    return public


def test_the_mail_to_a_hospital_names_the_release_key_as_ssh_keygen_does(
    key: Path, olga: User, mailoutbox: list[Any]
) -> None:
    reported = subprocess.run(["ssh-keygen", "-lf", str(key)], check=True, capture_output=True, text=True)
    shown = reported.stdout.split()[1]
    site = Site.objects.create(name="")
    services.invite(olga, "new@hospital.example", Role.SITE_ADMIN, site)
    services.invite(olga, "lead@university.example", Role.LEAD)
    hospital, lead = (mail.body for mail in mailoutbox)
    assert re.findall(r"SHA256:\S+", hospital) == [shown]
    assert "this mail comes from the very server" in hospital
    assert "SHA256:" not in lead


@pytest.mark.parametrize("content", ["", "ssh-ed25519", "ssh-ed25519 no-base64!", None])
def test_without_a_key_that_can_be_read_the_mail_names_none(
    key: Path, content: str | None, olga: User, mailoutbox: list[Any]
) -> None:
    key.unlink() if content is None else key.write_text(content)
    assert fingerprint() == ""
    services.invite(olga, "new@hospital.example", Role.SITE_ADMIN, Site.objects.create(name=""))
    assert "SHA256:" not in mailoutbox[0].body and "release key" not in mailoutbox[0].body
