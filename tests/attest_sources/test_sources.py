"""Sources of evidence: the development platform in this process; Gramine through a real file tree.

What is emulated: Gramine itself. Its tree is here a folder of ordinary files in which `quote` is a named
pipe; a thread answers each reading of it, as Gramine does, with a quote over what `user_report_data`
holds then. The quotes are real (development) SGX quotes.
"""

import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
import time

import dcap_qvl
import pytest

from attestation import development
from attestation.measured import TREE
from attestation.measurement import DEVELOPMENT_MRSIGNER, PRODUCT_IDS, SVN, measure
from attestation.sources import open_source
from attestation.sources.development import DevelopmentSource
from attestation.sources.gramine import GramineSource
from contracts.refusal import Refusal

REPORT_DATA = hashlib.sha512(b"claims").digest()


def _refused(code, function, *arguments, **named):
    with pytest.raises(Refusal) as caught:
        function(*arguments, **named)
    assert caught.value.code == code
    return caught.value


@pytest.fixture
def development_source(installation):
    return open_source("development", platform=installation.host, program="aggregator")


def test_a_development_quote_names_the_programs_measurement(development_source, installation, judge):
    verdict = judge(development_source.quote(REPORT_DATA), installation)
    report = json.loads(verdict.to_json())["report"]["SgxEnclave"]
    assert report["mr_enclave"] == measure("aggregator")
    assert report["mr_signer"] == DEVELOPMENT_MRSIGNER
    assert (report["isv_prod_id"], report["isv_svn"]) == (PRODUCT_IDS["aggregator"], SVN)
    assert report["report_data"] == REPORT_DATA.hex()


def test_direct_is_the_development_source(installation):
    source = open_source("direct", platform=installation.host, program="client_slice")
    assert isinstance(source, DevelopmentSource)
    assert source.name == "development"


def test_sgx_and_tdx_read_the_hardwares_own_files():
    assert open_source("sgx").name == "sgx"
    assert open_source("tdx").name == "tdx"
    assert open_source("tdx").sealing_key("state") is None


def test_without_platform_or_with_an_unknown_runtime_there_is_no_source(tmp_path):
    _refused("source.no_platform_given", open_source, "development")
    _refused("source.unknown_runtime", open_source, "sev", platform=tmp_path)
    _refused("development.no_platform", open_source, "direct", platform=tmp_path, program="aggregator")


def test_a_process_that_is_no_enclave_program_has_no_measurement(installation):
    _refused("source.program_unknown", open_source, "development", platform=installation.host)


def test_the_program_is_what_the_process_was_started_as(installation, tmp_path):
    """A stand-in package with the name of the real program, so that only the start is tested."""
    package = tmp_path / "enclave" / "programs"
    package.mkdir(parents=True)
    (package / "split_server.py").write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import enclave; enclave.__path__ = [sys.argv[1] + '/enclave']\n"
        "from attestation.sources.development import started_program\n"
        "print(started_program())\n"
    )
    command = [sys.executable, "-m", "enclave.programs.split_server", str(TREE)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "split_server\n", done.stderr


@pytest.mark.parametrize("length", [0, 63, 65])
def test_report_data_of_another_length_is_refused(development_source, gramine, length):
    for source in (development_source, gramine.source, open_source("tdx")):
        _refused("source.bad_report_data", source.quote, bytes(length))


def test_the_development_sealing_key_is_of_this_platform_program_and_label(installation, install, tmp_path):
    def key(made, program, label):
        return open_source("development", platform=made.host, program=program).sealing_key(label)

    first = key(installation, "aggregator", "state")
    assert len(first) == 32
    assert first == key(installation, "aggregator", "state")
    others = [
        key(installation, "aggregator", "other"),
        key(installation, "client_slice", "state"),
        key(install(tmp_path), "aggregator", "state"),
    ]
    assert len({first, *others}) == 4


class Gramine:
    """The emulation that this file's text describes."""

    def __init__(self, folder, platform):
        self.folder, self.platform = folder, platform
        self.answer = self._quote
        (folder / "keys").mkdir()
        (folder / "attestation_type").write_bytes(b"dcap")
        (folder / "user_report_data").write_bytes(bytes(64))
        (folder / "keys" / "_sgx_mrenclave").write_bytes(bytes(range(16)))
        os.mkfifo(folder / "quote")
        self.source = GramineSource(folder)
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _quote(self, report_data):
        return self.platform.sgx_quote(
            report_data, mrenclave=b"\x01" * 32, mrsigner=b"\x02" * 32, product_id=1, svn=1
        )

    def _serve(self):
        while True:
            with (self.folder / "quote").open("wb") as pipe:
                if self._stopped:
                    return
                pipe.write(self.answer((self.folder / "user_report_data").read_bytes()))
            time.sleep(0.02)  # until the reader has seen the end and closed

    def stop(self):
        self._stopped = True
        descriptor = os.open(self.folder / "quote", os.O_RDONLY | os.O_NONBLOCK)
        self._thread.join(5)
        os.close(descriptor)
        assert not self._thread.is_alive()


@pytest.fixture
def gramine(tmp_path, installation):
    folder = tmp_path / "attestation"
    folder.mkdir()
    emulation = Gramine(folder, installation.platform)
    yield emulation
    emulation.stop()


def test_gramine_gives_a_quote_over_the_report_data(gramine, installation, judge):
    quote = gramine.source.quote(REPORT_DATA)
    assert dcap_qvl.parse_quote(quote).report.report_data == REPORT_DATA
    assert judge(quote, installation).status == "UpToDate"


def test_gramine_is_asked_by_one_thread_at_a_time(gramine):
    wanted = [hashlib.sha512(bytes([i])).digest() for i in range(8)]
    got = {}

    def ask(report_data):
        got[report_data] = dcap_qvl.parse_quote(gramine.source.quote(report_data)).report.report_data

    threads = [threading.Thread(target=ask, args=(report_data,)) for report_data in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {report_data: report_data for report_data in wanted}


def test_a_quote_over_other_report_data_is_refused(gramine):
    gramine.answer = lambda report_data: gramine._quote(bytes(64))
    assert (
        "other report data"
        in _refused("source.wrong_quote", gramine.source.quote, REPORT_DATA).facts["fault"]
    )


@pytest.mark.parametrize("answer", [b"", b"\x03\x00", b"\x09\x00" + REPORT_DATA * 20])
def test_what_is_no_quote_is_refused(gramine, answer):
    gramine.answer = lambda _: answer
    _refused("source.wrong_quote", gramine.source.quote, REPORT_DATA)


@pytest.mark.parametrize("kind", [b"none", b"epid", b""])
def test_gramine_without_dcap_is_refused(gramine, kind):
    (gramine.folder / "attestation_type").write_bytes(kind)
    _refused("source.not_dcap", gramine.source.quote, REPORT_DATA)
    assert (gramine.folder / "user_report_data").read_bytes() == bytes(64)


@pytest.mark.parametrize("missing", ["attestation_type", "user_report_data"])
def test_a_missing_pseudo_file_is_refused_and_never_created(gramine, missing):
    (gramine.folder / missing).unlink()
    refusal = _refused("source.unavailable", gramine.source.quote, REPORT_DATA)
    assert refusal.facts["path"] == str(gramine.folder / missing)
    assert not (gramine.folder / missing).exists()


def test_outside_gramine_the_sgx_source_says_so(tmp_path):
    _refused("source.unavailable", GramineSource(tmp_path).quote, REPORT_DATA)
    _refused("source.unavailable", GramineSource(tmp_path).sealing_key, "state")


def test_gramines_sealing_key_is_derived_and_labelled(gramine):
    first, second = gramine.source.sealing_key("state"), gramine.source.sealing_key("pads")
    assert len(first) == len(second) == 32
    assert first != second
    assert bytes(range(16)) not in (first[:16], first[16:])
    (gramine.folder / "keys" / "_sgx_mrenclave").write_bytes(bytes(range(1, 17)))
    assert gramine.source.sealing_key("state") != first


@pytest.mark.parametrize("content", [b"", bytes(16), bytes(range(15)), bytes(range(32))])
def test_a_sealing_key_that_is_none_is_refused(gramine, content):
    (gramine.folder / "keys" / "_sgx_mrenclave").write_bytes(content)
    _refused("source.unavailable", gramine.source.sealing_key, "state")


def test_a_development_quote_does_not_touch_the_platforms_files(installation, development_source):
    before = {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in installation.host.iterdir()}
    development_source.quote(REPORT_DATA)
    assert before == {f: (f.stat().st_mtime_ns, f.stat().st_size) for f in installation.host.iterdir()}
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in before)
    assert development.load_platform(installation.host).sealing_secret
