"""The approval key on a PKCS#11 token: it signs there alone, and what the token says is checked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pkcs11
import pytest
from pkcs11 import Attribute, KeyType, Mechanism

from contracts.signing import verify
from site_agent import approval_key as module
from site_agent.approval_key import (
    OnToken,
    Public,
    create_on_token,
    public_half,
    read_key_file,
)
from site_agent.files import write_private
from site_agent.members import confirm
from site_agent.state import State
from site_agent.token_key import ED25519, TokenKey
from tests.attacks.hospital import Hospital, attacked_hospital
from tests.site_agent.conftest import Reply
from tests.support.terminal import Terminal

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
LABEL, PIN = "officer", "482916"


@dataclass
class Drawer:
    """A folder of software tokens (SoftHSM), and what of it lies on the hospital's disk."""

    folder: Path
    key: Path
    pin: Path

    def open(self, name: str = "full", mechanisms: str = "ALL") -> None:
        """From now on this process sees the tokens of this drawer."""
        tokens, reported = self.folder / name, self.folder / "softhsm2.conf"
        tokens.mkdir(exist_ok=True)
        reported.write_text(f"directories.tokendir = {tokens}\nslots.mechanisms = {mechanisms}\n")
        os.environ["SOFTHSM2_CONF"] = str(reported)
        pkcs11.lib(str(MODULE)).reinitialize()

    def add(self, label: str) -> None:
        """A new, empty token."""
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "70163524"]
        subprocess.run([*command, "--pin", PIN], check=True, capture_output=True)
        pkcs11.lib(str(MODULE)).reinitialize()

    @property
    def held(self) -> OnToken:
        held = read_key_file(self.key)
        assert isinstance(held, OnToken)
        return held


@pytest.fixture(scope="module")
def drawer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drawer]:
    """One token, with one approval key."""
    folder, before = tmp_path_factory.mktemp("drawer"), os.environ.get("SOFTHSM2_CONF")
    made = Drawer(folder, folder / "approval.key", folder / "pin")
    write_private(made.pin, PIN.encode())
    made.open()
    made.add(LABEL)
    create_on_token(made.key, MODULE, LABEL, None, made.pin)
    yield made
    os.environ.pop("SOFTHSM2_CONF")
    if before is not None:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture
def hospital(tmp_path: Path, drawer: Drawer) -> Iterator[Hospital]:
    """Its state folder says where the key is."""
    with attacked_hospital(tmp_path / "agent", approval_key=drawer.held.public) as made:
        (made.state.folder / "approval.key").unlink()
        write_private(made.state.approval_file, drawer.key.read_bytes())
        confirm(made.state, made.manifest().sites)
        made.offer(made.manifest())
        yield made
        drawer.open()


def line(folder: Path, text: str) -> Path:
    file = folder / "line"
    write_private(file, text.encode())
    return file


def approves(hospital: Hospital, pin: Path) -> str:
    status, said = hospital.approves(hospital.manifest(), "--passphrase-file", str(pin))
    assert status == (0 if hospital.approved else 1), said
    return said


def test_an_approval_is_signed_on_the_token_and_nothing_secret_is_beside_it(
    hospital: Hospital, drawer: Drawer
) -> None:
    said = approves(hospital, drawer.pin)
    assert hospital.approved == [hospital.manifest().hash] and PIN not in said
    held = drawer.held
    assert (held.token, held.module) == (LABEL, str(MODULE))
    assert read_key_file(public_half(drawer.key)) == Public(1, held.public)
    with pkcs11.lib(str(MODULE)).get_token(token_label=LABEL).open(user_pin=PIN) as session:
        private = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, id=bytes.fromhex(held.key))
        with pytest.raises(pkcs11.AttributeSensitive):
            private[Attribute.VALUE]


def with_other_key(held: OnToken) -> OnToken:
    """The file names another key of the token, which signs as well, but not as this hospital."""
    with pkcs11.lib(str(MODULE)).get_token(token_label=LABEL).open(user_pin=PIN, rw=True) as session:
        generate(session, b"other")
    return msgspec.structs.replace(held, key=b"other".hex())


def generate(session: pkcs11.Session, identifier: bytes, **private: bool) -> None:
    curve = session.create_domain_parameters(KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: ED25519}, local=True)
    template = {Attribute[name]: value for name, value in private.items()}
    curve.generate_keypair(
        mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN, store=True, id=identifier, private_template=template
    )


CHANGES: dict[str, tuple[str, Callable[[OnToken], OnToken]]] = {
    "another label": ("absent", lambda held: msgspec.structs.replace(held, token="lost")),
    "another token of that label": ("absent", lambda held: msgspec.structs.replace(held, serial="f" * 16)),
    "no such key": ("key_absent", lambda held: msgspec.structs.replace(held, key="00")),
    "another key": ("bad_signature", with_other_key),
    "no library": ("module", lambda held: msgspec.structs.replace(held, module="/nowhere/lib.so")),
    "no PKCS#11 library": ("module", lambda held: msgspec.structs.replace(held, module=msgspec_library())),
}


def msgspec_library() -> str:
    """A shared library that is there, and is none of PKCS#11."""
    return str(msgspec._core.__file__)


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_changed_key_file_names_approves_nothing(
    hospital: Hospital, drawer: Drawer, change: str
) -> None:
    code, changed = CHANGES[change]
    hospital.state.approval_file.write_bytes(msgspec.json.encode(changed(drawer.held)))
    assert f"[approval_token.{code}]" in approves(hospital, drawer.pin)
    assert hospital.approved == []


def test_a_copy_of_the_key_file_without_the_token_approves_nothing(
    hospital: Hospital, drawer: Drawer
) -> None:
    drawer.open("empty")
    assert "[approval_token.absent]" in approves(hospital, drawer.pin)
    drawer.add(LABEL)
    assert "[approval_token.absent]" in approves(hospital, drawer.pin), "another token of the same name"
    assert hospital.approved == []


def test_a_wrong_pin_approves_nothing_and_the_right_one_does(
    hospital: Hospital, drawer: Drawer, tmp_path: Path
) -> None:
    for wrong in ("482917", ""):
        said = approves(hospital, line(tmp_path, wrong))
        assert "[approval_token.wrong_pin]" in said and hospital.approved == []
    status, said = hospital.approves(hospital.manifest())
    assert status == 1 and "[approval_key.needs_passphrase]" in said
    approves(hospital, drawer.pin)
    assert hospital.approved != []


def test_a_token_that_offers_no_ed25519_is_refused_by_name(hospital: Hospital, drawer: Drawer) -> None:
    drawer.open(mechanisms="CKM_ECDSA")
    assert "[approval_token.no_ed25519]" in approves(hospital, drawer.pin)
    assert hospital.approved == []


def test_without_the_library_it_says_what_to_install(
    hospital: Hospital, drawer: Drawer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEMORY_KIB", 1024)
    monkeypatch.delitem(sys.modules, "site_agent.token_key")
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    said = approves(hospital, drawer.pin)
    assert "[approval_token.no_library]" in said and "requirements-token.lock" in said
    file = tmp_path / "sealed.key"
    words = ("--approval-key", str(file), "--passphrase-file", str(line(tmp_path, "six random words")))
    status, said = Terminal(tmp_path / "s")("approval-key", "create", *words)
    assert status == 0, "whoever has no token needs no library: " + said


def create(drawer: Drawer, folder: Path, *words: str, label: str = LABEL) -> tuple[int, str, Path]:
    file = folder / f"{len(list(folder.iterdir()))}.key"
    how = ("--on-token", label, str(MODULE), "--passphrase-file", str(drawer.pin), *words)
    status, said = Terminal(folder / "state")("approval-key", "create", "--approval-key", str(file), *how)
    assert file.exists() is (status == 0), said
    return status, said, file


def test_the_command_makes_a_key_on_the_token_or_takes_the_one_that_is_there(
    drawer: Drawer, tmp_path: Path
) -> None:
    status, said, file = create(drawer, tmp_path)
    made = read_key_file(file)
    assert status == 0 and isinstance(made, OnToken) and PIN not in said
    assert f'(on the token "{LABEL}", serial number {made.serial}, id {made.key})' in said
    assert made.public != drawer.held.public
    status, said, again = create(drawer, tmp_path, "--token-key", made.key)
    assert status == 0 and read_key_file(again) == made, "a lost file is written again: it holds no secret"
    for key in ("00", "not hex"):
        assert "[approval_token.key_absent]" in create(drawer, tmp_path, "--token-key", key)[1]
    status, said = Terminal(tmp_path / "state")("approval-key", "passphrase", "--approval-key", str(file))
    assert status == 1 and "[approval_token.pin_elsewhere]" in said
    assert "[approval_token.absent]" in create(drawer, tmp_path, label="lost")[1]
    drawer.open("twins")
    drawer.add(LABEL)
    drawer.add(LABEL)
    assert "[approval_token.several]" in create(drawer, tmp_path)[1]
    drawer.open()


def test_a_key_that_can_leave_its_token_is_not_taken(drawer: Drawer, tmp_path: Path) -> None:
    with pkcs11.lib(str(MODULE)).get_token(token_label=LABEL).open(user_pin=PIN, rw=True) as session:
        generate(session, b"loose", EXTRACTABLE=True)
        generate(session, b"plain", SENSITIVE=False)
    for identifier in (b"loose", b"plain"):
        said = create(drawer, tmp_path, "--token-key", identifier.hex())[1]
        assert "[approval_token.key_can_leave]" in said


def test_a_key_that_wants_its_pin_for_each_signature_signs(drawer: Drawer, tmp_path: Path) -> None:
    with pkcs11.lib(str(MODULE)).get_token(token_label=LABEL).open(user_pin=PIN, rw=True) as session:
        generate(session, b"asks", ALWAYS_AUTHENTICATE=True, EXTRACTABLE=False)
    status, said, file = create(drawer, tmp_path, "--token-key", b"asks".hex())
    assert status == 0, said
    held = read_key_file(file)
    assert isinstance(held, OnToken)
    verify(held.public, "test/v1", {"a": 1}, TokenKey.open(held, drawer.pin).sign("test/v1", {"a": 1}))


def test_replacing_puts_the_key_on_a_token_and_a_second_try_makes_no_second_key(
    hospital: Hospital, drawer: Drawer
) -> None:
    state, before = hospital.state, hospital.state.config.approval_key
    words = ("--token", "x" * 43, "--on-token", LABEL, str(MODULE), "--passphrase-file", str(drawer.pin))
    hospital.server.answer = lambda _: Reply(400, {"code": "enrolment.unknown_token", "facts": {}})
    assert hospital.types("approval-key", "replace", *words)[0] == 1
    made = read_key_file(state.folder / "approval-2.key")
    assert isinstance(made, OnToken) and state.config.approval_key == before != made.public
    hospital.server.answer = lambda _: Reply(body={})
    status, said = hospital.types("approval-key", "replace", *words)
    assert status == 0 and f'(on the token "{LABEL}"' in said, said
    assert hospital.server.requests[-1].json["approval_key"] == made.public
    assert State.open(state.folder).config.approval_key == made.public
