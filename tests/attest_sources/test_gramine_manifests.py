"""Gramine manifests: what the templates promise, and that a manifest which protects nothing is refused."""

import copy
import dataclasses
import re
import subprocess
import tomllib

import pytest

from attestation.measurement import PRODUCT_IDS, PROGRAMS, SVN, TREE, measured_files
from contracts.refusal import Refusal
from enclave_host.gramine import render, schema
from enclave_host.gramine.render import ENCLAVE_SIZES, values_for


def _refused(code, function, *arguments, **named):
    with pytest.raises(Refusal) as caught:
        function(*arguments, **named)
    assert caught.value.code == code
    return caught.value


@pytest.fixture(params=PROGRAMS)
def program(request):
    return request.param


@pytest.fixture
def manifest(program):
    return tomllib.loads(render.render(program, values_for(program)))


@pytest.fixture
def client():
    return tomllib.loads(render.render("client_slice", values_for("client_slice")))


def test_each_is_a_production_enclave_with_dcap_and_fixed_start(manifest, program):
    assert manifest["sgx"]["debug"] is False
    assert manifest["sgx"]["remote_attestation"] == "dcap"
    assert manifest["sgx"]["file_check_policy"] == "strict"
    assert (manifest["sgx"]["isvprodid"], manifest["sgx"]["isvsvn"]) == (PRODUCT_IDS[program], SVN)
    assert manifest["sgx"]["enclave_size"] == ENCLAVE_SIZES[program]
    assert manifest["sys"]["disallow_subprocesses"] is True
    assert manifest["loader"]["argv"][-4:] == ["-m", f"enclave.programs.{program}", "--mailbox", "/mailbox"]
    assert manifest["loader"]["log_level"] == "error"


def test_nothing_of_the_environment_comes_from_the_host(manifest):
    assert manifest["loader"]["env"]
    assert all(isinstance(value, str) for value in manifest["loader"]["env"].values())


def test_code_and_packages_are_protected_and_only_the_mailbox_is_not(manifest, program):
    trusted = manifest["sgx"]["trusted_files"]
    values = values_for(program)
    for wanted in (f"{values.packages}/", f"{values.stdlib}/", values.python):
        assert f"file:{wanted}" in trusted
    mailbox = {"host.json", "in/", "out/", "model/"} | ({"data/"} if program == "client_slice" else set())
    shared = {render.ACCELERATOR} if program == "client_slice" else set()
    assert set(manifest["sgx"]["allowed_files"]) == {f"file:{name}" for name in mailbox} | shared


def test_of_our_code_exactly_what_is_measured_is_mounted_and_protected(manifest, program):
    code = values_for(program).code
    expected = set(measured_files(program))
    mounted = {
        mount["path"].removeprefix("/fedslice/"): mount["uri"]
        for mount in manifest["fs"]["mounts"]
        if mount["path"].startswith("/fedslice")
    }
    assert mounted == {name: f"file:{code}/{name}" for name in expected}
    trusted = {uri for uri in manifest["sgx"]["trusted_files"] if uri.startswith(f"file:{code}/")}
    assert trusted - {f"file:{values_for(program).packages}/"} == set(mounted.values())


def test_only_the_client_slice_shares_memory_with_the_accelerator(manifest, program):
    shared = [mount for mount in manifest["fs"]["mounts"] if mount.get("type") == "untrusted_shm"]
    assert [mount["uri"] for mount in shared] == (["dev:/dev/shm"] if program == "client_slice" else [])


def test_every_mounted_host_folder_is_either_protected_or_the_mailbox_or_shared(manifest):
    trusted = [uri.rstrip("/") for uri in manifest["sgx"]["trusted_files"]]
    for mount in manifest["fs"]["mounts"]:
        if mount.get("type", "chroot") == "chroot" and mount["path"] != "/mailbox":
            assert mount["uri"] in trusted, mount


def test_the_interpreter_that_is_mounted_is_the_one_that_starts(manifest):
    mounts = {mount["path"]: mount.get("uri") for mount in manifest["fs"]["mounts"]}
    assert manifest["libos"]["entrypoint"] in mounts
    assert {"/packages", "/mailbox", "/fedslice/enclave/programs/program.py"} <= set(mounts)
    assert manifest["loader"]["env"]["PYTHONPATH"] == "/fedslice:/packages"


def test_rendering_twice_gives_the_same_bytes_wherever_the_mailbox_is(program, tmp_path, monkeypatch):
    values = values_for(program)
    text = render.render(program, values)
    monkeypatch.chdir(tmp_path)
    assert render.render(program, values_for(program)) == text
    elsewhere = render.render(program, dataclasses.replace(values, mailbox=str(tmp_path)))
    assert f"file:{tmp_path}/in/" in tomllib.loads(elsewhere)["sgx"]["allowed_files"]


def test_the_development_platform_is_mounted_only_when_asked_for(program, manifest, tmp_path):
    assert str(tmp_path) not in str(manifest)
    values = values_for(program, platform=str(tmp_path))
    mounts = tomllib.loads(render.render(program, values))["fs"]["mounts"]
    assert {"path": str(tmp_path), "uri": f"file:{tmp_path}"} in mounts


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
    values = dataclasses.replace(values_for("aggregator"), **{field: value})
    assert _refused("gramine.bad_path", render.render, "aggregator", values).facts["what"] == field


@pytest.mark.parametrize(
    ("size", "code"),
    [
        ("plenty", "gramine.wrong_type"),
        ('4G"\nsgx.debug = true\nsgx.x = "', "gramine.not_toml"),
        ('4G"\nsgx.profile.enable = "all', "gramine.insecure"),
    ],
)
def test_an_enclave_size_cannot_smuggle_keys_in(size, code):
    values = dataclasses.replace(values_for("aggregator"), enclave_size=size)
    _refused(code, render.render, "aggregator", values)


def test_an_unknown_program_or_a_missing_interpreter_is_refused(tmp_path):
    _refused("gramine.unknown_program", render.render, "shell", values_for("aggregator"))
    _refused("gramine.bad_path", values_for, "aggregator", tmp_path / "python3")
    _refused("gramine.bad_path", values_for, "aggregator", None, tmp_path)


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
        ("sgx.allowed_files", ["file:in/", "dev:/dev/nvidia0"]),
        ("sgx.trusted_files", ["file:in/program.py"]),
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


def test_the_command_writes_the_manifest_or_says_why_not(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(render, "require_locked", lambda: None)  # tests/supply_chain/test_images.py has that
    assert render.main(["split_server", "--out", str(tmp_path), "--enclave-size", "128G", "--edmm"]) == 0
    written = tomllib.loads((tmp_path / "split_server.manifest").read_text())
    assert (written["sgx"]["enclave_size"], written["sgx"]["edmm_enable"]) == ("128G", True)
    assert render.main(["split_server"]) == 0
    assert capsys.readouterr().out == render.render("split_server", values_for("split_server"))
    assert render.main(["split_server", "--mailbox", "here"]) == 1
    assert "gramine.bad_path" in capsys.readouterr().err


def test_the_templates_are_where_the_measurement_looks_for_them():
    assert {f"{p}.manifest.template" for p in PROGRAMS} == {
        file.name for file in (TREE / "enclave" / "measured").glob("*.template")
    }


def test_interpreter_arguments_environment_and_packages_fit_together(manifest, program, tmp_path):
    """Lays the mounts out as links and starts the interpreter as Gramine would. What only Gramine can show
    (its C library, protected files, the enclave itself) is not shown."""
    for mount in manifest["fs"]["mounts"]:
        if mount["path"].startswith(("/python", "/packages", "/fedslice")):
            inside = tmp_path / mount["path"].lstrip("/")
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.symlink_to(mount["uri"].removeprefix("file:"))
    home = {key: manifest["loader"]["env"][key] for key in ("PYTHONHOME", "PYTHONPATH", "LC_ALL")}
    environment = {key: re.sub(r"(?<![^:])/", f"{tmp_path}/", value) for key, value in home.items()}
    interpreter = f"{tmp_path}{manifest['libos']['entrypoint']}"
    start = [interpreter, *manifest["loader"]["argv"][1:4], "-c"]
    code = "import sys, attestation.sources as s, dcap_qvl, numpy; print(s.__file__, *sys.path, sep='\\n')"
    done = subprocess.run(
        [*start, code], env=environment, capture_output=True, text=True, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr
    file, *path = done.stdout.split()
    assert file == f"{tmp_path}/fedslice/attestation/sources/__init__.py"
    assert all(entry.startswith(str(tmp_path)) for entry in path)
