"""Sealed files in and out, by the SHA-256 of their content."""

import hashlib
import os

import pytest

from contracts.refusal import Refusal
from contracts.sealed.container import FileRef
from enclave.programs.mailbox import BoundedBuffer
from enclave_host.mailbox import HostMailbox


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def box(tmp_path):
    return HostMailbox.create(tmp_path / "box")


def read(box, name, **kwargs):
    with box.incoming(name, **kwargs) as file:
        return file.read()


def code(function, *args, **kwargs):
    with pytest.raises(Refusal) as caught:
        function(*args, **kwargs)
    return caught.value.code


def test_a_delivered_file_is_read_and_an_outgoing_file_is_collected(box, tmp_path):
    (tmp_path / "f").write_bytes(b"sealed")
    assert box.deliver(tmp_path / "f", sha(b"sealed")).bytes == 6
    assert read(box, sha(b"sealed")) == b"sealed"
    filed = box.outgoing(lambda file: FileRef(sha(b"more"), file.write(b"more")))
    assert (filed.sha256, filed.bytes) == (sha(b"more"), 4)
    assert box.collect(filed.sha256).read_bytes() == b"more"


def test_the_folder_is_for_its_owner_only(box):
    assert {p.stat().st_mode & 0o777 for p in (box.folder, box.folder / "in", box.folder / "out")} == {0o700}


@pytest.mark.parametrize(
    "name", ["", "../in/x", "/etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", "a" * 65, "a" * 60 + "/../"]
)
def test_only_a_hash_is_a_name(box, name):
    assert code(read, box, name) == "mailbox.bad_name"
    assert code(box.collect, name) == "mailbox.bad_name"
    assert code(box.deliver, box.folder, name) == "mailbox.bad_name"


def test_a_link_a_folder_and_a_pipe_are_not_files(box, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (box.folder / "in" / sha(b"secret")).symlink_to(secret)
    (box.folder / "in" / ("b" * 64)).mkdir()
    os.mkfifo(box.folder / "in" / ("c" * 64))
    assert code(read, box, sha(b"secret")) == "mailbox.missing"
    assert code(read, box, "b" * 64) == "mailbox.missing"
    assert code(read, box, "c" * 64) == "mailbox.missing"
    assert code(read, box, "d" * 64) == "mailbox.missing"


def test_content_that_is_not_what_its_name_says_is_refused(box):
    (box.folder / "in" / sha(b"right")).write_bytes(b"wrong")
    assert code(read, box, sha(b"right")) == "mailbox.hash_mismatch"


def test_bytes_beyond_what_the_reader_took_count_too(box):
    """A file whose good beginning is read and whose tail is not must still be refused."""
    (box.folder / "in" / sha(b"good")).write_bytes(b"good and more")

    def beginning():
        with box.incoming(sha(b"good")) as file:
            assert file.read(4) == b"good"

    assert code(beginning) == "mailbox.hash_mismatch"


def test_a_file_over_the_limit_is_refused_while_it_is_read(box):
    (box.folder / "in" / sha(b"12345")).write_bytes(b"12345")
    assert read(box, sha(b"12345"), limit=5) == b"12345"
    assert code(read, box, sha(b"12345"), limit=4) == "mailbox.too_large"


def test_a_damaged_delivery_leaves_nothing_behind(box, tmp_path):
    (tmp_path / "f").write_bytes(b"other")
    assert code(box.deliver, tmp_path / "f", sha(b"this")) == "mailbox.hash_mismatch"
    assert list((box.folder / "in").iterdir()) == []


def test_a_file_whose_writing_fails_leaves_nothing_behind(box):
    def fail(file):
        file.write(b"half")
        raise Refusal("sealing.refused")

    assert code(box.outgoing, fail) == "sealing.refused"
    assert list((box.folder / "out").iterdir()) == []


def test_a_buffer_for_plaintext_has_an_end():
    buffer = BoundedBuffer(4)
    buffer.write(b"1234")
    assert code(buffer.write, b"5") == "mailbox.plaintext_too_large"
    assert buffer.getvalue() == b"1234"
