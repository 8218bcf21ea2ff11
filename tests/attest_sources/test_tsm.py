"""TDX quotes through configfs-tsm.

What is emulated: the kernel (there is no /sys/kernel/config/tsm outside a trust domain). As in configfs,
making a folder makes its attributes at once and removing it removes them; a thread plays the driver.
`inblob` and `outblob` are named pipes, so what the kernel does at the write and at the read happens
exactly then: the generation rises with the write, and the quote is made for the read. The quotes are real
(development) TDX quotes v4.
"""

import errno
import hashlib
import os
import shutil
import threading
from pathlib import Path

import pytest

from attestation.sources import tsm
from attestation.sources.tdx import TdxSource
from contracts.refusal import Refusal

REPORT_DATA = hashlib.sha512(b"claims").digest()


class Kernel:
    """The driver's state. Lists are consumed one item an attempt, so a test can spoil the first few."""

    def __init__(self, platform):
        self.platform = platform
        self.provider = "tdx_guest"
        self.mkdir_errors: list[int] = []
        self.extra_writes: list[int] = []  # writes by others between ours and the end of the read
        self.first_generation = 0
        self.quoted = lambda written: written
        self.requests: list[Path] = []

    def serve(self, entry):
        extra = self.extra_writes.pop(0) if self.extra_writes else 0
        try:
            with (entry / "inblob").open("rb") as pipe:
                written = pipe.read()
            if not written:
                return  # the request was removed without a write
            generation = self.first_generation + 1 + extra
            (entry / "generation").write_text(f"{generation}\n")
            quote = self.platform.tdx_quote(
                self.quoted(written), mrtd=b"\x01" * 48, rtmrs=(b"\x02" * 48,) * 4
            )
            with (entry / "outblob").open("wb") as pipe:
                pipe.write(quote)
        except FileNotFoundError:
            pass


class Configfs(type(Path())):
    """A path whose mkdir and rmdir do what configfs does under tsm/report."""

    kernel: Kernel

    def mkdir(self, mode=0o777, parents=False, exist_ok=False):
        kernel = type(self).kernel
        if kernel.mkdir_errors:
            raise OSError(kernel.mkdir_errors.pop(0), "emulated", str(self))
        super().mkdir(mode)
        (self / "provider").write_text(f"{kernel.provider}\n")
        (self / "generation").write_text(f"{kernel.first_generation}\n")
        os.mkfifo(self / "inblob")
        os.mkfifo(self / "outblob")
        kernel.requests.append(self)
        threading.Thread(target=kernel.serve, args=(Path(self),), daemon=True).start()

    def rmdir(self):
        for name, flag in (("inblob", os.O_WRONLY), ("outblob", os.O_RDONLY)):
            try:  # lets a driver thread go that still waits there
                os.close(os.open(self / name, flag | os.O_NONBLOCK))
            except OSError as error:
                assert error.errno == errno.ENXIO
        shutil.rmtree(self)


@pytest.fixture
def kernel(installation, monkeypatch):
    monkeypatch.setattr(tsm, "PAUSE_SECONDS", 0.0001)
    Configfs.kernel = Kernel(installation.platform)
    return Configfs.kernel


@pytest.fixture
def source(kernel, tmp_path):
    return TdxSource(Configfs(tmp_path))


def _refused(code, function, *arguments):
    with pytest.raises(Refusal) as caught:
        function(*arguments)
    assert caught.value.code == code
    return caught.value


def test_the_kernel_gives_a_quote_over_the_report_data(source, kernel, installation, judge, tmp_path):
    verdict = judge(source.quote(REPORT_DATA), installation, tee="tdx")
    assert verdict.status == "UpToDate"
    assert REPORT_DATA.hex() in verdict.to_json()
    assert len(kernel.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_generation_that_does_not_start_at_zero_is_no_matter(source, kernel):
    kernel.first_generation = 41
    assert REPORT_DATA in source.quote(REPORT_DATA)


@pytest.mark.parametrize("strangers", [[1], [1, 3, -1]])
def test_a_quote_of_a_request_that_others_wrote_to_is_thrown_away_and_asked_again(
    source, kernel, strangers, tmp_path
):
    """-1: our own write was lost, so the generation did not rise."""
    kernel.extra_writes = list(strangers)
    assert REPORT_DATA in source.quote(REPORT_DATA)
    assert len(kernel.requests) == len(strangers) + 1
    assert len(set(kernel.requests)) == len(kernel.requests)
    assert list(tmp_path.iterdir()) == []


def test_after_five_spoilt_attempts_it_is_refused(source, kernel, tmp_path):
    kernel.extra_writes = [1] * 9
    assert _refused("source.contended", source.quote, REPORT_DATA).facts["attempts"] == tsm.ATTEMPTS == 5
    assert len(kernel.requests) == 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.EEXIST])
def test_a_passing_error_is_tried_again(source, kernel, number):
    kernel.mkdir_errors = [number, number]
    assert REPORT_DATA in source.quote(REPORT_DATA)
    kernel.mkdir_errors = [number] * 5
    _refused("source.contended", source.quote, REPORT_DATA)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.ENXIO, errno.EIO])
def test_a_lasting_error_is_refused_at_once(source, kernel, number):
    kernel.mkdir_errors = [number]
    _refused("source.unavailable", source.quote, REPORT_DATA)
    assert kernel.requests == []


def test_another_kind_of_tee_is_refused(source, kernel, tmp_path):
    kernel.provider = "sev_guest"
    assert "sev_guest" in _refused("source.wrong_quote", source.quote, REPORT_DATA).facts["fault"]
    assert list(tmp_path.iterdir()) == []


def test_a_quote_over_other_report_data_is_refused(source, kernel):
    kernel.quoted = lambda written: bytes(64)
    _refused("source.wrong_quote", source.quote, REPORT_DATA)


def test_a_generation_that_is_no_number_is_refused(source, kernel, tmp_path):
    kernel.first_generation = "many"
    _refused("source.unavailable", source.quote, REPORT_DATA)
    assert list(tmp_path.iterdir()) == []


def test_outside_a_trust_domain_it_says_so(tmp_path):
    _refused("source.unavailable", TdxSource(tmp_path / "tsm" / "report").quote, REPORT_DATA)
