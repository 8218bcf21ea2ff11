"""Signed notes, checkpoints and cosignatures keep to the C2SP specifications, and read nothing else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.kept_keys import signing_key
from contracts.log import growth, merkle
from contracts.log.checkpoint import Checkpoint, parse_text, verify_checkpoint, verify_cosignatures
from contracts.log.following import checkpoint_text, follow, sign_checkpoint
from contracts.log.note import KeyType, NoteKey, check_signature, parse_note, parse_vkey
from contracts.log.note_writing import note_text, sign_note, vkey_of
from contracts.refusal import Refusal
from tests.support.witness import cosign, witness_key

LOG, WITNESS = signing_key(b"\1" * 32), signing_key(b"\2" * 32)
ORIGIN = "fedslice.example/log"
KEY, WITNESS_KEY = NoteKey(ORIGIN, LOG.public), witness_key("witness.example/w1", WITNESS.public)


def tree(size: int) -> growth.MemoryStore:
    store = growth.MemoryStore()
    for index in range(size):
        growth.append(store, index, merkle.leaf_hash(b"%d" % index))
    return store


STORE = tree(20)


def head(size: int) -> Checkpoint:
    return Checkpoint(ORIGIN, size, growth.root(STORE, size))


def refused(code: str, act: object, *arguments: object, **named: object) -> None:
    with pytest.raises(Refusal) as refusal:
        act(*arguments, **named)  # type: ignore[operator]
    assert refusal.value.code == code


def test_the_reference_note_of_go_sumdb_verifies() -> None:
    """The example of golang.org/x/mod/sumdb/note, an independent implementation."""
    key = parse_vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    note = parse_note(
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
        "\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfq"
        "dngotpRZb6KE6RyyBwJnAM=\n"
    )
    assert check_signature(note, key) is None
    assert vkey_of(key) == "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def test_the_example_of_tlog_cosignature_is_read_and_written_back() -> None:
    text = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zh"
        "cyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3"
        "b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
    )
    note = parse_note(text)
    assert note_text(note) == text
    assert parse_text(note.text).size == 20852163
    assert int.from_bytes(note.signatures[1].signature[:8], "big") == 1679315147
    assert len(note.signatures[1].signature) == 8 + 64


def test_a_checkpoint_opens_for_the_logs_key_only() -> None:
    note = sign_checkpoint(head(7), LOG)
    assert verify_checkpoint(note, KEY) == head(7)
    refused("log.bad_checkpoint_signature", verify_checkpoint, note, NoteKey(ORIGIN, WITNESS.public))
    refused("log.bad_checkpoint_signature", verify_checkpoint, note, NoteKey("other.example", LOG.public))


def test_a_checkpoint_of_another_origin_under_the_same_key_is_refused() -> None:
    """The key's holder signs a note for another log; the signature is good, the log is the wrong one."""
    text = checkpoint_text(Checkpoint("other.example/log", 7, growth.root(STORE, 7)))
    refused("log.wrong_origin", verify_checkpoint, sign_note(text, ORIGIN, LOG), KEY)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_change_of_a_signed_checkpoint_is_refused(data: st.DataObject) -> None:
    note = sign_checkpoint(head(7), LOG).encode()
    place, value = data.draw(st.integers(0, len(note) - 1)), data.draw(st.integers(0, 255))
    changed = note[:place] + bytes([value]) + note[place + 1 :]
    if changed == note:
        return
    with pytest.raises(Refusal):
        verify_checkpoint(changed, KEY)


def test_a_bad_line_of_the_known_key_beside_a_good_one_refuses_the_note() -> None:
    note = parse_note(sign_checkpoint(head(7), LOG))
    line = note.signatures[0]
    bad = f"— {line.name} {base64.b64encode(line.key_id + bytes(64)).decode()}\n"
    refused("log.bad_checkpoint_signature", verify_checkpoint, note_text(note) + bad, KEY)


def test_lines_of_unknown_keys_are_ignored_even_under_a_known_name() -> None:
    note = sign_checkpoint(head(7), LOG)
    stranger = f"— {ORIGIN} {base64.b64encode(b'abcd' + bytes(64)).decode()}\n"
    assert verify_checkpoint(note + stranger * 15, KEY) == head(7)


GOOD = sign_checkpoint(Checkpoint(ORIGIN, 7, growth.root(STORE, 7)), LOG)
ROOT = base64.b64encode(growth.root(STORE, 7)).decode()
SIGNATURE = GOOD.split("\n\n")[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no signature\n",
        GOOD[:-1],
        GOOD.replace("\n\n", "\n"),
        GOOD.replace("— ", "- "),
        GOOD.replace("— ", "—"),
        GOOD + "\n",
        GOOD.replace("=\n\n", "=\n\r\n\n"),
        "\x00" + GOOD,
        GOOD + "— a+b AAAAAAAA\n",
        GOOD + "— a\u00a0b AAAAAAAA\n",
        GOOD + "— name AAAA\n",
        GOOD + "— name !!!!\n",
        GOOD + "—  AAAAAAAA\n",
        GOOD + SIGNATURE * 100,
        "x" * 70_000 + GOOD,
    ],
)
def test_what_is_no_signed_note_is_refused(text: str) -> None:
    refused("log.invalid_note", parse_note, text)


def test_a_second_spelling_of_the_same_base64_is_refused() -> None:
    """The last letter before the padding has two bits that mean nothing; they must be zero."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    *rest, letter = GOOD.removesuffix("=\n")
    other = "".join(rest) + alphabet[alphabet.index(letter) + 1] + "=\n"
    assert base64.b64decode(other.split(" ")[-1]) == base64.b64decode(GOOD.split(" ")[-1])
    refused("log.invalid_note", parse_note, other)


@pytest.mark.parametrize(
    "body",
    [
        f"{ORIGIN}\n7\n",
        f"\n7\n{ROOT}\n",
        f"{ORIGIN}\n07\n{ROOT}\n",
        f"{ORIGIN}\n+7\n{ROOT}\n",
        f"{ORIGIN}\n7 \n{ROOT}\n",
        f"{ORIGIN}\n-7\n{ROOT}\n",
        f"{ORIGIN}\n٧\n{ROOT}\n",
        f"{ORIGIN}\n99999999999999999999\n{ROOT}\n",
        f"{ORIGIN}\n7\n{ROOT[:-1]}\n",
        f"{ORIGIN}\n7\n{ROOT[:40]}\n",
        f"{ORIGIN}\n0\n{ROOT}\n",
        f"{ORIGIN}\n7\n{ROOT}\n\nextension\n",
    ],
)
def test_what_is_no_checkpoint_is_refused_though_well_signed(body: str) -> None:
    refused("log.invalid_note", verify_checkpoint, sign_note(body, ORIGIN, LOG), KEY)


def test_extension_lines_are_kept() -> None:
    checkpoint = Checkpoint(ORIGIN, 7, growth.root(STORE, 7), ("one", "two"))
    assert verify_checkpoint(sign_checkpoint(checkpoint, LOG), KEY) == checkpoint


@pytest.mark.parametrize(
    "text", ["", "a+b", "a+00000000+AAAA", vkey_of(KEY)[:-4], vkey_of(KEY).replace("+", "+0", 1)]
)
def test_a_broken_vkey_is_refused(text: str) -> None:
    refused("log.invalid_note", parse_vkey, text)


def test_a_vkey_round_trips_for_both_types() -> None:
    assert parse_vkey(vkey_of(KEY)) == KEY and parse_vkey(vkey_of(WITNESS_KEY)) == WITNESS_KEY
    assert (
        WITNESS_KEY.type == KeyType.COSIGNATURE
        and KEY.id != NoteKey(ORIGIN, LOG.public, KeyType.COSIGNATURE).id
    )


def test_a_witness_cosigns_what_grows_and_its_time_is_signed() -> None:
    grown = sign_checkpoint(head(15), LOG)
    proof = growth.consistency_proof(STORE, 7, 15)
    note = cosign(
        grown, log=KEY, seen=head(7), proof=proof, name=WITNESS_KEY.name, signer=WITNESS, at=1_800_000_000
    )
    assert verify_checkpoint(note, KEY) == head(15)
    assert verify_cosignatures(note, [WITNESS_KEY]) == {WITNESS_KEY.name: 1_800_000_000}
    assert verify_cosignatures(grown, [WITNESS_KEY]) == {}
    line = parse_note(note).signatures[1]
    later = (1_800_000_001).to_bytes(8, "big") + line.signature[8:]
    forged = grown + f"— {line.name} {base64.b64encode(line.key_id + later).decode()}\n"
    refused("log.bad_checkpoint_signature", verify_cosignatures, forged, [WITNESS_KEY])


def test_a_witness_does_not_cosign_a_fork_a_rollback_or_another_log() -> None:
    fork = growth.MemoryStore()
    for index in range(15):
        growth.append(fork, index, merkle.leaf_hash(b"forked %d" % index))
    forked = Checkpoint(ORIGIN, 15, growth.root(fork, 15))
    for new, code in ((forked, "log.not_consistent"), (head(5), "log.went_back")):
        refused(
            code,
            cosign,
            sign_checkpoint(new, LOG),
            log=KEY,
            seen=head(7),
            proof=growth.consistency_proof(STORE, 7, 15),
            name=WITNESS_KEY.name,
            signer=WITNESS,
            at=1,
        )
    refused("log.wrong_origin", follow, head(7), Checkpoint("other", 9, growth.root(STORE, 9)), [])


def test_an_agent_follows_growth_and_refuses_a_fork_of_the_same_size() -> None:
    assert follow(None, head(7), []) == head(7)
    assert follow(head(0), head(7), []) == head(7)
    assert follow(head(7), head(7), []) == head(7)
    assert follow(head(7), head(20), growth.consistency_proof(STORE, 7, 20)) == head(20)
    refused("log.not_consistent", follow, head(7), Checkpoint(ORIGIN, 7, b"\0" * 32), [])
    refused("log.not_consistent", follow, head(7), head(20), [])
