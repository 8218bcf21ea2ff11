"""Gramine manifests: what the templates promise, and that a manifest which protects nothing is refused.

Gramine need not be installed: empty files stand where its own would, which are trusted like all others.
"""

import copy
import dataclasses
import hashlib
import os
import random
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from attestation.measured import PROGRAMS, TREE
from attestation.measurement import PRODUCT_IDS, SVN, measured_files
from contracts.refusal import Refusal
from enclave_host.gramine import launch, render, schema, trusted
from enclave_host.gramine.render import ENCLAVE_SIZES, values_for


def _refused(code, function, *arguments, **named):
    with pytest.raises(Refusal) as caught:
        function(*arguments, **named)
    assert caught.value.code == code
    return caught.value


@pytest.fixture(params=PROGRAMS)
def program(request):
    return request.param


@pytest.fixture(scope="module")
def gramine_lib(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gramine")
    (folder / "runtime" / "glibc").mkdir(parents=True)
    for name in (render.ENTRYPOINT, *(f"runtime/glibc/{name}" for name in trusted.GLIBC)):
        (folder / name).touch()
    return str(folder)


@pytest.fixture(scope="module")
def values(gramine_lib):
    """The values for a program."""
    return lambda program, *places, **others: values_for(program, *places, gramine_lib=gramine_lib, **others)


@pytest.fixture(scope="module")
def texts(values):
    """The rendered manifest of each program."""
    return {program: render.render(program, values(program)) for program in PROGRAMS}


@pytest.fixture(scope="module")
def hashes(values):
    return render.trusted_files("aggregator", values("aggregator"))


@pytest.fixture
def hashed_before(monkeypatch, hashes):
    """Rendering that does not hash every file again, for tests of what stands around them."""
    monkeypatch.setattr(render, "trusted_files", lambda _program, _values: hashes)


@pytest.fixture
def manifest(program, texts):
    return tomllib.loads(texts[program])


@pytest.fixture
def client(texts):
    return tomllib.loads(texts["client_slice"])


_LOADED = {
    "aggregator": "import dcap_qvl",
    "client_slice": "from enclave.programs import learner, offloaded; from transformers import BertModel",
    "split_server": "from enclave.programs import tail; from transformers import BertModel",
}
"""What else a program imports when a manifest asks for it."""


def _trusted(manifest):
    return {file["uri"]: file["sha256"] for file in manifest["sgx"]["trusted_files"]}


def test_each_is_a_production_enclave_with_dcap_and_fixed_start(manifest, program):
    assert manifest["sgx"]["debug"] is False
    assert manifest["sgx"]["remote_attestation"] == "dcap"
    assert manifest["sgx"]["file_check_policy"] == "strict"
    assert (manifest["sgx"]["isvprodid"], manifest["sgx"]["isvsvn"]) == (PRODUCT_IDS[program], SVN)
    assert manifest["sgx"]["enclave_size"] == ENCLAVE_SIZES[program]
    assert manifest["sys"]["disallow_subprocesses"] is True
    assert manifest["loader"]["argv"][-4:] == ["-m", f"enclave.programs.{program}", "--mailbox", "/mailbox"]
    assert manifest["loader"]["log_level"] == "error"
    # Else Python looks into the host's own site-packages, which Gramine lists and does not open.
    assert "-S" in manifest["loader"]["argv"]


def test_nothing_of_the_environment_comes_from_the_host(manifest):
    assert manifest["loader"]["env"]
    assert all(isinstance(value, str) for value in manifest["loader"]["env"].values())


def test_only_the_mailbox_is_not_protected(manifest, program):
    mailbox = {"host.json", "in/", "out/", "model/"} | ({"data/"} if program == "client_slice" else set())
    assert set(manifest["sgx"]["allowed_files"]) == {f"file:{name}" for name in mailbox}


def test_every_trusted_file_is_there_once_with_its_hash(manifest):
    """Gramine wants tables of uri and hash, under `gramine-direct` too, and no folders."""
    files = _trusted(manifest)
    assert len(files) == len(manifest["sgx"]["trusted_files"])
    drawn = random.Random(7).sample(sorted(files), 50)
    for uri in [*drawn, manifest["loader"]["entrypoint"]["uri"]]:
        content = Path(uri.removeprefix("file:")).read_bytes()
        expected = files.get(uri, manifest["loader"]["entrypoint"]["sha256"])
        assert expected == hashlib.sha256(content).hexdigest()


def test_trusted_are_few_files_and_none_that_only_tests_compilers_or_caches_read(manifest, program, texts):
    files = [uri.removeprefix("file:") for uri in _trusted(manifest)]
    assert len(files) <= (6_000 if program == "aggregator" else 12_000)
    assert len(texts[program].encode()) <= 2_000_000
    packages = values_for(program).packages
    for file in files:
        assert not file.endswith((".pyc", ".pyi", ".h", ".hpp", ".cuh", ".a", ".pyx"))
        assert not {"test", "tests", "__pycache__", "idlelib", "tkinter"} & set(Path(file).parts[4:]), file
    brought = {Path(file).relative_to(packages).parts[0] for file in files if file.startswith(packages)}
    assert not {"django", "pytest", "peft", "pip"} & brought
    assert ("torch" in brought) == (program != "aggregator")


def test_each_library_stands_once_and_the_interpreters_own_is_the_only_libpython(manifest, program):
    """A libpython of another build fits neither Python's library nor its extensions."""
    names = [uri.rpartition("/")[2] for uri in _trusted(manifest) if ".so" in uri]
    single = [
        name for name in names if name.startswith(("libpython", "libc.", "libssl", "libstdc++", "libz."))
    ]
    assert len(single) == len(set(single))
    own = sysconfig.get_config_var("LDLIBRARY" if sysconfig.get_config_var("Py_ENABLE_SHARED") else "")
    mounts = {mount["path"]: mount.get("uri") for mount in manifest["fs"]["mounts"]}
    pythons = {path: uri for path, uri in mounts.items() if "libpython" in path}
    if own:
        ((path, uri),) = pythons.items()
        assert path.startswith("/libraries/libpython3.11.so")
        assert Path(uri.removeprefix("file:")).samefile(Path(sysconfig.get_config_var("LIBDIR"), own))
        assert uri in _trusted(manifest)
    else:
        assert not pythons
    assert manifest["loader"]["env"]["LD_LIBRARY_PATH"] == "/lib:/libraries"
    assert not any(path in mounts for path in ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"))


def test_threads_are_as_many_as_the_host_has_and_do_not_spin(manifest, monkeypatch):
    assert manifest["loader"]["env"]["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert launch.threads() == 3
    for nothing in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", nothing)
        assert launch.threads() == len(os.sched_getaffinity(0))


def test_of_our_code_exactly_what_is_measured_is_mounted_and_protected(manifest, program):
    code = values_for(program).code
    expected = set(measured_files(program))
    mounted = {
        mount["path"].removeprefix("/fedslice/"): mount["uri"]
        for mount in manifest["fs"]["mounts"]
        if mount["path"].startswith("/fedslice")
    }
    assert mounted == {name: f"file:{code}/{name}" for name in expected}
    ours = tuple(f"file:{code}/{folder}/" for folder in ("contracts", "attestation", "enclave"))
    assert {uri: sha256 for uri, sha256 in _trusted(manifest).items() if uri.startswith(ours)} == {
        f"file:{code}/{name}": sha256 for name, sha256 in measured_files(program).items()
    }


def test_only_the_client_slice_shares_memory_with_the_accelerator(manifest, program):
    shared = [mount for mount in manifest["fs"]["mounts"] if mount.get("type") == "untrusted_shm"]
    assert [mount["uri"] for mount in shared] == (["dev:channel"] if program == "client_slice" else [])


def test_every_mounted_host_folder_is_either_protected_or_the_mailbox_or_shared(manifest):
    trusted = set(_trusted(manifest))
    folders = {str(parent) for uri in trusted for parent in PurePosixPath(uri).parents}
    for mount in manifest["fs"]["mounts"]:
        if mount.get("type", "chroot") == "chroot" and mount["path"] != "/mailbox":
            assert mount["uri"] in trusted or mount["uri"] in folders, mount


def test_the_interpreter_that_is_mounted_is_the_one_that_starts(manifest):
    mounts = {mount["path"]: mount.get("uri") for mount in manifest["fs"]["mounts"]}
    assert manifest["libos"]["entrypoint"] in mounts
    assert {"/packages", "/mailbox", "/fedslice/enclave/programs/program.py"} <= set(mounts)
    assert manifest["loader"]["env"]["PYTHONPATH"] == "/fedslice:/packages"


def test_rendering_twice_gives_the_same_bytes_wherever_the_mailbox_is(values, texts, tmp_path, monkeypatch):
    assert render.render("aggregator", values("aggregator")) == texts["aggregator"]
    monkeypatch.chdir(tmp_path)
    elsewhere = render.render("aggregator", values("aggregator", mailbox=str(tmp_path)))
    assert f"file:{tmp_path}/in/" in tomllib.loads(elsewhere)["sgx"]["allowed_files"]


def test_the_development_platform_is_mounted_and_readable_only_when_asked_for(
    texts, values, tmp_path, hashed_before
):
    assert str(tmp_path) not in str(texts)
    manifest = tomllib.loads(render.render("aggregator", values("aggregator", platform=str(tmp_path))))
    assert {"path": str(tmp_path), "uri": f"file:{tmp_path}"} in manifest["fs"]["mounts"]
    assert f"file:{tmp_path}/" in manifest["sgx"]["allowed_files"]
    _refused("gramine.insecure", render.check_production, manifest)
    _refused("gramine.insecure", render.check_production, manifest, str(tmp_path / "other"))
    assert all(
        "{% if platform %}" in template.read_text() for template in TREE.glob("enclave/measured/*.template")
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("python", 'x" }, { path = "/evil'),
        ("code", "relative/code"),
        ("mailbox", "other"),
        ("mailbox", "/box\nsgx.debug = true"),
        ("packages", "C:\\packages"),
        ("platform", "platform"),
    ],
)
def test_a_path_that_could_write_manifest_lines_is_refused(field, value):
    changed = dataclasses.replace(values_for("aggregator"), **{field: value})
    assert _refused("gramine.bad_path", render.render, "aggregator", changed).facts["what"] == field


@pytest.mark.parametrize(
    ("size", "code"),
    [
        ("plenty", "gramine.wrong_type"),
        ('4G"\nsgx.debug = true\nsgx.x = "', "gramine.not_toml"),
        ('4G"\nsgx.profile.enable = "all', "gramine.insecure"),
    ],
)
def test_an_enclave_size_cannot_smuggle_keys_in(size, code, values, hashed_before):
    _refused(code, render.render, "aggregator", values("aggregator", enclave_size=size))


def test_an_unknown_program_or_a_missing_interpreter_is_refused(tmp_path):
    _refused("gramine.unknown_program", render.render, "shell", values_for("aggregator"))
    _refused("gramine.bad_path", values_for, "aggregator", tmp_path / "python3")
    _refused("gramine.bad_path", values_for, "aggregator", None, tmp_path)


def test_without_a_locked_package_a_library_or_gramine_nothing_is_rendered(values, tmp_path, monkeypatch):
    empty = tmp_path / "lib" / "python3.11" / "site-packages"
    empty.mkdir(parents=True)
    refusal = _refused("gramine.bad_path", render.render, "aggregator", values("aggregator", None, tmp_path))
    assert "asn1crypto" in refusal.facts["fault"]
    bare = dataclasses.replace(values("aggregator"), gramine_lib=str(tmp_path))
    assert _refused("gramine.bad_path", render.render, "aggregator", bare).facts["what"] == "gramine_lib"
    ldd = tmp_path / "ldd"
    ldd.write_text("#!/bin/sh\nprintf '\\tlibgone.so.1 => not found\\n'\n")
    ldd.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    refusal = _refused("gramine.bad_path", trusted.libraries, [Path("/bin/true")], tmp_path)
    assert refusal.facts == {"what": "libraries", "fault": "libgone.so.1 is not on this machine"}


def _change(manifest, dotted, value):
    changed = copy.deepcopy(manifest)
    *path, last = dotted.split(".")
    table = changed
    for name in path:
        table = table.setdefault(name, {})
    table[last] = value
    return changed


@pytest.mark.parametrize(
    "key",
    [
        "sgx.debugg",
        "sgx.thread_num",
        "sgx.require_avx",
        "loader.preload",
        "sys.stack_size",
        "fs.mount",
        "gpu",
    ],
)
def test_a_key_that_gramine_does_not_document_is_refused(client, key):
    assert _refused("gramine.unknown_key", schema.check, _change(client, key, True)).facts["key"] == key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sgx.debug", "false"),
        ("sgx.debug", 0),
        ("sgx.isvsvn", True),
        ("sgx.max_threads", -1),
        ("sgx.enclave_size", "8 gigabytes"),
        ("sgx.enclave_size", 8),
        ("sgx.remote_attestation", "epid"),
        ("sgx.remote_attestation", True),
        ("sgx.file_check_policy", "lax"),
        ("sgx.cpu_features.mpx", "unspecified"),
        ("sgx.seal_key.flags_mask", "0xff"),
        ("sgx.trusted_files", "file:/x"),
        ("sgx.trusted_files", ["/x"]),
        ("sgx.trusted_files", ["file:/x"]),
        ("sgx.trusted_files", [{"uri": "file:/x/", "sha256": "00" * 32}]),
        ("sgx.trusted_files", [{"uri": "file:/x", "sha256": "00"}]),
        ("sgx.allowed_files", [{"uri": "file:/x"}]),
        ("loader.entrypoint", "file:/libsysdb.so"),
        ("loader.env.HOME", 1),
        ("loader.env.HOME", {"passthrough": False}),
        ("loader.argv", ["python3", 1]),
        ("libos.entrypoint", "file:/python"),
        ("fs.mounts", [{"path": "tmp", "type": "tmpfs"}]),
        ("fs.mounts", [{"path": "/tmp", "type": "ramdisk", "uri": "file:/x"}]),
        ("fs.mounts", ["/tmp"]),
        ("sys.debug__mock_syscalls", [{"name": "fork", "return": True}]),
        ("sys", []),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(client, key, value):
    refusal = _refused("gramine.wrong_type", schema.check, _change(client, key, value))
    assert str(refusal.facts["key"]).startswith(key)


@pytest.mark.parametrize(
    ("key", "value", "missing"),
    [
        ("fs", {}, "fs.mounts"),
        ("libos", {}, "libos.entrypoint"),
        ("loader.entrypoint", {}, "loader.entrypoint.uri"),
        ("loader.entrypoint", {"uri": "file:/libsysdb.so"}, "loader.entrypoint.sha256"),
        ("sgx.trusted_files", [{"uri": "file:/x"}], "sgx.trusted_files[0].sha256"),
        ("fs.mounts", [{"path": "/x"}], "fs.mounts[0].uri"),
        ("fs.mounts", [{"type": "tmpfs"}], "fs.mounts[0].path"),
    ],
)
def test_a_missing_key_is_refused(client, key, value, missing):
    assert _refused("gramine.missing_key", schema.check, _change(client, key, value)).facts["key"] == missing


def test_a_mount_may_have_only_the_keys_of_its_type(client):
    for mount in (
        {"path": "/x", "uri": "file:/x", "key_name": "k"},
        {"path": "/t", "type": "tmpfs", "size": "1M"},
    ):
        _refused("gramine.unknown_key", schema.check, _change(client, "fs.mounts", [mount]))
    encrypted = {"path": "/x", "type": "encrypted", "uri": "file:/x", "key_name": "_sgx_mrenclave"}
    schema.check(_change(client, "fs.mounts", [encrypted]))


MAILBOX = {"path": "/mailbox", "uri": "file:."}
SHARED = {"path": "/channel", "type": "untrusted_shm", "uri": "dev:channel"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sgx.debug", True),
        ("sgx.remote_attestation", "none"),
        ("sgx.file_check_policy", "allow_all_but_log"),
        ("sgx.profile", {"enable": "main"}),
        ("sgx.vtune_profile", True),
        ("sgx.enable_stats", True),
        ("sgx.insecure__rpc_thread_num", 2),
        ("sgx.allowed_files", ["file:/etc/passwd"]),
        ("sgx.allowed_files", ["file:in/../../code/"]),
        ("sgx.allowed_files", ["dev:/dev/shm/"]),
        ("fs.mounts", [SHARED | {"uri": "dev:/dev/shm"}, MAILBOX]),
        ("fs.mounts", [SHARED | {"uri": "dev:channel/../../code"}, MAILBOX]),
        ("fs.mounts", [SHARED]),
        ("sgx.allowed_files", ["file:in/", "dev:/dev/nvidia0"]),
        ("sgx.trusted_files", [{"uri": "file:in/program.py", "sha256": "00" * 32}]),
        ("loader.insecure__use_cmdline_argv", True),
        ("loader.insecure__use_host_env", True),
        ("loader.insecure__disable_aslr", True),
        ("loader.env.LD_PRELOAD", {"passthrough": True}),
        ("loader.env_src_file", "file:in/env"),
        ("loader.argv_src_file", "file:in/argv"),
        ("loader.argv", []),
        ("loader.log_level", "debug"),
        ("fs.insecure__keys", {"default": "00"}),
        ("fs.mounts", []),
        ("sys.disallow_subprocesses", False),
        ("sys.insecure__allow_eventfd", True),
        ("sys.debug__mock_syscalls", [{"name": "fork", "return": 0}]),
    ],
)
def test_a_setting_that_opens_the_enclave_is_refused(client, key, value):
    render.check_production(client)
    changed = _change(client, key, value)
    schema.check(changed)
    _refused("gramine.insecure", render.check_production, changed)


def test_without_an_sgx_section_it_is_no_production_manifest(client):
    del client["sgx"]
    schema.check(client)
    _refused("gramine.insecure", render.check_production, client)


def test_the_command_writes_the_manifest_or_says_why_not(
    tmp_path, capsys, monkeypatch, gramine_lib, texts, hashed_before
):
    monkeypatch.setattr(render, "require_locked", lambda: None)  # tests/supply_chain/test_images.py has that
    own = ["aggregator", "--gramine-lib", gramine_lib]
    assert render.main([*own, "--out", str(tmp_path), "--enclave-size", "128G", "--edmm"]) == 0
    written = tomllib.loads((tmp_path / "aggregator.manifest").read_text())
    assert (written["sgx"]["enclave_size"], written["sgx"]["edmm_enable"]) == ("128G", True)
    assert render.main(own) == 0
    assert capsys.readouterr().out == texts["aggregator"]
    assert render.main([*own, "--mailbox", "here"]) == 1
    assert "gramine.bad_path" in capsys.readouterr().err


def test_the_templates_are_where_the_measurement_looks_for_them():
    assert {f"{p}.manifest.template" for p in PROGRAMS} == {
        file.name for file in (TREE / "enclave" / "measured").glob("*.template")
    }


@pytest.mark.parametrize(
    "program",
    [
        "aggregator",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("client_slice", "split_server")),
    ],
)
def test_what_is_trusted_is_all_that_the_program_imports(manifest, program, tmp_path):
    """Lays the trusted files out as links, where the mounts have them, and starts the interpreter as Gramine
    would. What only Gramine can show (its C library, protected files, the enclave itself) is not shown."""
    trusted = [Path(uri.removeprefix("file:")) for uri in _trusted(manifest)]
    for mount in manifest["fs"]["mounts"]:
        if mount["path"].startswith(("/python", "/packages", "/fedslice", "/libraries")):
            there, inside = Path(mount["uri"].removeprefix("file:")), tmp_path / mount["path"].lstrip("/")
            for file in trusted:
                if file.is_relative_to(there):
                    link = inside / file.relative_to(there)
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(file)
    names = ("PYTHONHOME", "PYTHONPATH", "LC_ALL", "LD_LIBRARY_PATH")
    home = {key: manifest["loader"]["env"][key] for key in names}
    environment = {key: re.sub(r"(?<![^:])/", f"{tmp_path}/", value) for key, value in home.items()}
    interpreter = f"{tmp_path}{manifest['libos']['entrypoint']}"
    start = [interpreter, *manifest["loader"]["argv"][1:4], "-c"]
    # torch looks for this file and never opens it here; Gramine shows it, as it shows names of all files
    helper = Path(values_for(program).packages, "torch/bin/torch_shm_manager")
    if program != "aggregator":
        (link := tmp_path / "packages" / "torch" / "bin" / helper.name).parent.mkdir()
        link.symlink_to(helper)
    code = f"""
import sys
from enclave.programs import {program}
import attestation.sources as s, cryptography, numpy, ssl
{_LOADED[program]}
print(s.__file__, *sys.path, sep="\\n")
"""
    done = subprocess.run(
        [*start, code], env=environment, capture_output=True, text=True, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr
    file, *path = done.stdout.split()
    assert file == f"{tmp_path}/fedslice/attestation/sources/__init__.py"
    assert all(entry.startswith(str(tmp_path)) for entry in path)
