"""From rendered manifests to signed ones. Gramine's signer is not installed where these tests run: scripts of
those names show what it is called with and answer in its format. The tools: tests/gramine/test_signing.py."""

from __future__ import annotations

import json

import pytest

from enclave_host.gramine import image, launch, render
from enclave_host.gramine.trusted import GLIBC

SAID = {
    "mr_enclave": "aa" * 32,
    "mr_signer": "bb" * 32,
    "isv_prod_id": 1,
    "isv_svn": 1,
    "debug_enclave": False,
}


@pytest.fixture
def gramine_lib(tmp_path):
    folder = tmp_path / "gramine"
    (folder / "runtime" / "glibc").mkdir(parents=True)
    for name in ("libsysdb.so", *(f"runtime/glibc/{name}" for name in GLIBC)):
        (folder / name).touch()
    return folder


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """The signer copies the manifest and writes SAID, or what else a test says, as a signature."""
    folder = tmp_path / "bin"
    folder.mkdir()
    signer = f"""#!/bin/sh
echo "$@" > {tmp_path}/asked
while [ $# -gt 0 ]; do case "$1" in
--manifest) manifest=$2;; --output) output=$2;; --sigfile) sig=$2;; --key) key=$2;; esac; shift; done
[ -e "$key" ] || {{ echo "no such key" >&2; exit 1; }}
cp "$manifest" "$output" && cp {tmp_path}/said "$sig"
"""
    viewer = '#!/bin/sh\n[ "$1 $2" = "--output-format json" ] && cat "$3"\n'
    for name, text in (("gramine-sgx-sign", signer), ("gramine-sgx-sigstruct-view", viewer)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    (tmp_path / "key.pem").write_text("a key")


@pytest.fixture
def make(tmp_path, gramine_lib, monkeypatch, capsys):
    """The command on the aggregator, in an image whose digests are locked and whose packages are ours."""
    monkeypatch.setattr(image, "require_locked", lambda: None)  # tests/supply_chain/test_images.py has that
    monkeypatch.setattr(image, "is_current", lambda _program, _made: True)
    # which files those are is another test's: test_gramine_manifests.py
    monkeypatch.setattr(render, "trusted_files", lambda _program, _values: ({}, {"/bin/sh": "00" * 32}))
    monkeypatch.setattr(
        image, "values_for", lambda program, venv, **named: launch.values_for(program, **named)
    )

    def make(*arguments, said=SAID):
        (tmp_path / "said").write_text(json.dumps(said))
        places = ("--into", str(tmp_path / "out"), "--gramine-lib", str(gramine_lib))
        status = image.main(["aggregator", *places, *arguments])
        return status, *capsys.readouterr()

    return make


def test_without_a_key_the_manifest_is_rendered_for_others_to_compare(make, tmp_path):
    assert make() == (0, f"{tmp_path}/out/aggregator.manifest  aggregator\n", "")
    assert "sha256" in (tmp_path / "out" / "aggregator.manifest").read_text()
    assert not (tmp_path / "out" / "aggregator.sig").exists()


def test_signing_prints_what_references_takes_and_leaves_what_sgx_starts(make, tools, tmp_path, monkeypatch):
    status, out, _ = make("--key", str(tmp_path / "key.pem"), "--date", "2026-01-31")
    assert (status, out) == (0, f"{'aa' * 32}  {'bb' * 32}  1  1  aggregator\n")
    assert "--date 2026-01-31" in (tmp_path / "asked").read_text()
    monkeypatch.setenv(launch.SIGNED_FOLDER, str(tmp_path / "out"))
    (tmp_path / "bin" / "gramine-sgx").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "gramine-sgx").chmod(0o755)
    assert launch.command("aggregator", "sgx", tmp_path)[-1] == str(tmp_path / "out" / "aggregator")


def test_an_auditor_compares_with_what_was_published(make, tools, tmp_path):
    (tmp_path / "theirs").mkdir()
    key = ("--key", str(tmp_path / "key.pem"), "--compare", str(tmp_path / "theirs"))
    for published, status in (("aa" * 32, 0), ("cc" * 32, 1)):
        (tmp_path / "theirs" / "aggregator.sig").write_text(json.dumps(SAID | {"mr_enclave": published}))
        result = make(*key)
        assert result[0] == status
    assert "[gramine.other_mrenclave]" in result[2] and "cc" * 32 in result[2]


def test_a_comparison_without_a_key_is_no_comparison(make, tools, tmp_path):
    """It would compare nothing and end well."""
    with pytest.raises(SystemExit) as caught:
        make("--compare", str(tmp_path))
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("said", "key", "code"),
    [
        (SAID, "missing.pem", "gramine.sign_failed"),
        (SAID | {"debug_enclave": True}, "key.pem", "gramine.insecure"),
        (SAID | {"isv_prod_id": 3}, "key.pem", "gramine.insecure"),
        (SAID | {"isv_svn": 0}, "key.pem", "gramine.insecure"),
    ],
)
def test_a_signature_that_is_not_of_this_program_in_production_is_refused(
    make, tools, tmp_path, said, key, code
):
    status, out, error = make("--key", str(tmp_path / key), said=said)
    assert (status, out) == (1, "")
    assert f"[{code}]" in error


def test_no_image_is_made_of_unlocked_images_or_stale_packages(make, tmp_path, monkeypatch):
    monkeypatch.setattr(image, "is_current", lambda _program, _made: False)
    assert "[program.no_environment]" in make()[2]
    monkeypatch.undo()
    assert image.main(["aggregator", "--into", str(tmp_path)]) == 1
