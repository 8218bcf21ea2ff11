"""Gramine's own signer, without SGX hardware: an image gives one MRENCLAVE, whoever signs it and when."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from attestation.measurement import PRODUCT_IDS, SVN
from enclave_host.environments import STAMP, stamp_of
from enclave_host.gramine import image
from enclave_host.gramine.launch import tool

pytestmark = [pytest.mark.gramine, pytest.mark.long]
PROGRAM = "aggregator"


@pytest.fixture
def manifest(tmp_path, monkeypatch) -> Path:
    """Of the aggregator, rendered as in an image whose digests are locked."""
    monkeypatch.setattr(image, "require_locked", lambda: None)
    made = tmp_path / "venvs" / PROGRAM
    made.mkdir(parents=True)
    (made / "lib").symlink_to(Path(sys.prefix) / "lib")
    (made / STAMP).write_text(stamp_of(PROGRAM))
    lib = Path(tool("gramine-sgx-sign")).resolve().parents[1] / "lib" / "x86_64-linux-gnu" / "gramine"
    return image.write_manifest(PROGRAM, tmp_path / "image", tmp_path / "venvs", str(lib))


def key(folder: Path, name: str) -> Path:
    file = folder / name
    subprocess.run(["openssl", "genrsa", "-3", "-out", file, "3072"], check=True, capture_output=True)
    return file


def test_two_signers_on_two_days_get_one_mrenclave_and_a_changed_file_another(manifest, tmp_path):
    first = image.sign(manifest, key(tmp_path, "one"), "2026-11-28")
    signed = manifest.with_suffix(".sig").read_bytes()
    assert image.sign(manifest, tmp_path / "one", "2026-11-28") == first
    assert len(signed) == 1808  # SIGSTRUCT
    second = image.sign(manifest, key(tmp_path, "two"))
    assert second.mrenclave == first.mrenclave and second.mrsigner != first.mrsigner
    assert (first.product_id, first.svn) == (PRODUCT_IDS[PROGRAM], SVN)

    text = manifest.read_text()
    place = text.index('sha256 = "', text.index("sgx.trusted_files")) + len('sha256 = "')
    flipped = "0" if text[place] != "0" else "1"
    manifest.write_text(text[:place] + flipped + text[place + 1 :])
    assert image.sign(manifest, tmp_path / "one").mrenclave != first.mrenclave
