"""The Helm chart by Helm's own engine and Kubernetes' schemas, and the systemd units by systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from enclave_jobs.health import PROCESSES
from tests.support.installation import REPOSITORY

CHART = REPOSITORY / "deploy" / "helm" / "fedslice"
UNITS = REPOSITORY / "deploy" / "systemd"
KUBERNETES = ("1.28", "1.34")
VALUES: dict[str, Any] = {
    "image": "registry.example/fedslice@sha256:" + "0" * 64,
    "url": "https://fedslice.example",
    "proxies": "10.0.0.0/8",
    "secret": "fedslice",
    "logKeySecret": "fedslice-log-key",
    "callersTlsSecret": "fedslice-callers",
}
FULL: dict[str, Any] = {
    **VALUES,
    "imagePullSecrets": [{"name": "pull"}],
    "storageForSites": "https://storage.example:9000",
    "runtimes": "sgx,tdx",
    "worker": {"replicas": 3, "concurrency": 4},
    "supervisor": {
        "replicas": 3,
        "nodeSelector": {"sgx": "yes"},
        "tolerations": [{"key": "sgx", "operator": "Exists"}],
        "devices": {"sgx.intel.com/enclave": "1"},
        "storageClass": "fast",
        "modelsClaim": "models",
    },
    "ingress": {"enabled": True, "className": "nginx", "annotations": {"a": "b"}, "tlsSecret": "tls"},
}


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    files = helm.Chart.load(str(CHART)).render(values, name="demo", namespace="prod")
    return [each for text in files.values() for each in yaml.safe_load_all(text) if each]


def pods(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in rendered(values):
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


@pytest.mark.parametrize("values", [VALUES, FULL])
def test_helm_finds_nothing_wrong_with_the_chart(values: dict[str, Any]) -> None:
    reported = helm.lint(str(CHART), values)
    assert not reported["errors"] and all(each["severity"] < 2 for each in reported["messages"]), reported


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", [VALUES, FULL])
def test_each_object_is_one_that_kubernetes_takes(values: dict[str, Any], version: str) -> None:
    objects = rendered(values)
    assert len(objects) >= 10
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", "fedslice:latest"), ("url", "http://fedslice.example"), ("proxies", ""), ("secret", ""),
        ("runtimes", "development"), ("unknown", 1), ("storageForSites", "http://storage.example"),
    ],
)  # fmt: skip
def test_values_that_would_weaken_it_are_refused(field: str, value: Any) -> None:
    with pytest.raises(helm.HelmError):
        rendered({**VALUES, field: value})


def test_each_supervisor_has_the_name_that_the_pool_calls_and_a_certificate_of_its_own() -> None:
    found = dict(pods(FULL))
    services = {each["metadata"]["name"] for each in rendered(FULL) if each["kind"] == "Service"}
    reported = {each["name"]: each.get("value") for each in found["demo-worker"]["containers"][0]["env"]}
    addresses = reported["FEDSLICE_SUPERVISORS"].split(",")
    assert len(addresses) == 3
    for number, address in enumerate(addresses):
        name = f"demo-supervisor-{number}"
        own = {each["name"]: each.get("value") for each in found[name]["containers"][0]["env"]}
        assert address == own["FEDSLICE_SUPERVISOR"] == f"{name}.prod.svc:7700" and name in services
        secrets = [each["secret"]["secretName"] for each in found[name]["volumes"] if "secret" in each]
        assert secrets == [f"{name}-tls"]


def test_no_pod_is_root_or_writes_to_its_image_and_every_setting_is_in_the_table() -> None:
    table = (REPOSITORY / "docs" / "operations.md").read_text()
    for name, pod in pods(FULL):
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"], name
        for container in pod["containers"]:
            assert container["image"] == VALUES["image"]
            assert container["securityContext"]["readOnlyRootFilesystem"]
            for each in container["env"]:
                assert f"| `{each['name']}` |" in table, each["name"]


def test_chart_units_and_compose_start_the_same_processes() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    found = dict(pods(VALUES))
    for name in ("web", "worker", "beat", "supervisor"):
        pod = found[f"demo-{name}" if name != "supervisor" else "demo-supervisor-0"]
        unit = (UNITS / f"fedslice-{name}.service").read_text()
        started = re.findall(r"^ExecStart=\S+/python (.*)$", unit, re.MULTILINE)[0].split()
        for command in (pod["containers"][0]["command"][1:], started):
            reported = compose[name]["command"][1:]
            assert command[:3] == reported[:3] and ("--queues" in command) == (name == "worker")
            if name == "worker":
                assert command[command.index("--queues") + 1] == reported[reported.index("--queues") + 1]


def test_whether_each_process_lives_is_asked_everywhere() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    found = dict(pods(VALUES))
    assert len(found) == 6
    for name in PROCESSES:
        (container,) = found[f"demo-{name}" if name != "supervisor" else "demo-supervisor-0"]["containers"]
        probe, check = container["livenessProbe"], compose[name]["healthcheck"]["test"]
        if name == "web":
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz" in check[-1]
            assert probe["httpGet"]["path"] == "/livez"
        else:
            assert probe["exec"]["command"] == check[1:] == ["python", "manage.py", "health", name]


def units(folder: Path) -> list[Path]:
    """The units, with this environment's Python in the place of the installed one. Links stand for both:
    ours may have blanks."""
    python, here, made = folder / "python", folder / "fedslice", folder / "units"
    python.symlink_to(sys.executable)
    here.symlink_to(REPOSITORY)
    made.mkdir()
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/fedslice/.venv/bin/python", str(python))
        (made / unit.name).write_text(text.replace("/opt/fedslice", str(here)))
    return sorted(made.iterdir())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, units(tmp_path))], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if "fedslice" in line]
    assert not ours and done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_a_mistake_in_a_unit_would_be_found(tmp_path: Path) -> None:
    unit = tmp_path / "fedslice-wrong.service"
    unit.write_text((UNITS / "fedslice-web.service").read_text().replace("Type=exec", "Type=wrong"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert "Failed to parse service type" in done.stderr
