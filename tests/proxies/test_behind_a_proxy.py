"""A coordinator behind Debian's nginx and Caddy, set up word by word as docs/operations.md says, with
certificates of an authority of the test's own; and behind proxies that somebody set up in part."""

from __future__ import annotations

import getpass
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from tests.support import redis_server
from tests.support.console import Console
from tests.support.installation import PASSWORD, REPOSITORY, free_port, wait_for

DOCUMENTATION = (REPOSITORY / "docs" / "operations.md").read_text()
LENA = "lena@hospital.example"


@dataclass(frozen=True)
class Served:
    """A web process at `port` reached as https://localhost:`tls`, where proxies serve."""

    folder: Path
    port: int
    tls: int

    @property
    def address(self) -> str:
        return f"https://localhost:{self.tls}"

    @property
    def log(self) -> str:
        return (self.folder / "web.log").read_text()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a migrated coordinator with one person and a Redis, to be served in several ways."""
    folder = tmp_path_factory.mktemp("state")
    with redis_server.running() as redis:
        environment = {
            **os.environ,
            "FEDSLICE_STATE": str(folder),
            "FEDSLICE_REDIS": redis_server.url_of(redis),
        }
        console = Console(REPOSITORY, environment)
        console.ask(arguments=["migrate", "--verbosity", "0"], stdin="")
        console.ask(
            code="from federation.people.models import Role, User\n"
            f"User.objects.create_user({LENA!r}, {PASSWORD!r}, role=Role.LEAD)"
        )
        console.close()
        yield environment


@contextmanager
def serve(state: dict[str, str], folder: Path, **settings: str) -> Iterator[Served]:
    served = Served(folder, free_port(), free_port())
    environment = {**state, "FEDSLICE_URL": served.address, "FEDSLICE_PROXIES": "127.0.0.1", **settings}
    command = [sys.executable, "-m", "uvicorn", "enclave_jobs.asgi:application", "--port", str(served.port)]
    with (folder / "web.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--no-proxy-headers", "--no-access-log"],
            cwd=REPOSITORY, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for(lambda: _answers(f"http://127.0.0.1:{served.port}/healthz"), 90, "the coordinator answers")
        yield served
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def coordinator(state: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(state, tmp_path_factory.mktemp("coordinator")) as served:
        yield served


@pytest.fixture(scope="module")
def bare(state: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Another, before which each test puts a proxy of its own."""
    with serve(state, tmp_path_factory.mktemp("bare")) as served:
        yield served


def documented(language: str, served: Served, certificate: trustme.LeafCert, folder: Path) -> str:
    """The documentation's example, with this test's name, ports and certificate, and nothing else changed."""
    found = re.findall(rf"```{language}\n(.*?)```", DOCUMENTATION, re.DOTALL)
    assert len(found) == 1
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "chain.pem", append=True)
    text = (
        found[0]
        .replace("/etc/ssl/fedslice", str(folder))
        .replace("127.0.0.1:8000", f"127.0.0.1:{served.port}")
    )
    return text.replace("fedslice.example", "localhost")


def nginx(example: str, served: Served, folder: Path, plain: int) -> list[str]:
    example = example.replace("listen 443", f"listen 127.0.0.1:{served.tls}")
    example = example.replace("listen 80", f"listen 127.0.0.1:{plain}").replace(
        "https://localhost$request_uri", f"{served.address}$request_uri"
    )
    # Its workers spool bodies to this folder, which only we may enter.
    user = f"user {getpass.getuser()};" if os.getuid() == 0 else ""
    around = (
        f"{user} daemon off; pid nginx.pid; error_log stderr; events {{}}\nhttp {{ access_log access.log;\n"
    )
    spools = "".join(
        f"{kind}_temp_path {kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(f"{around}{spools}{example}}}\n")
    return ["nginx", "-p", str(folder), "-c", "nginx.conf"]


def caddy(example: str, served: Served, folder: Path, plain: int) -> list[str]:
    ports = f"{{\n admin off\n http_port {plain}\n https_port {served.tls}\n skip_install_trust\n}}\n"
    (folder / "Caddyfile").write_text(ports + example)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


PROXIES = {"nginx": nginx, "caddy": caddy}


@contextmanager
def proxied(
    language: str,
    served: Served,
    authority: trustme.CA,
    folder: Path,
    change: Callable[[str], str] = lambda text: text,
) -> Iterator[int]:
    """A proxy of that kind in front; gives its port for plain HTTP."""
    example = documented(language, served, authority.issue_cert("localhost"), folder)
    changed, plain = change(example), free_port()
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(
            PROXIES[language](changed, served, folder, plain),
            cwd=folder, stdout=log, stderr=log,
            env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
        )  # fmt: skip
    try:
        wait_for(
            lambda: _answers(f"http://127.0.0.1:{plain}/"), 30, f"{language} answers ({folder / 'proxy.log'})"
        )
        yield plain
    finally:
        process.terminate()
        process.wait(30)


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5).status_code < 500
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module", params=sorted(PROXIES))
def as_documented(
    request: pytest.FixtureRequest,
    coordinator: Served,
    authority: trustme.CA,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[int]:
    with proxied(request.param, coordinator, authority, tmp_path_factory.mktemp(request.param)) as plain:
        yield plain


@pytest.fixture
def browser(coordinator: Served, trusted: ssl.SSLContext) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=coordinator.address, verify=trusted, timeout=60) as client:
        yield client


def sign_in(browser: httpx.Client, origin: str) -> httpx.Response:
    page = browser.get("/sign-in")
    assert page.status_code == 200
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert token is not None
    form = {"csrfmiddlewaretoken": token[1], "username": LENA, "password": PASSWORD}
    headers = {"Origin": origin, "Referer": f"{origin}/sign-in"}
    return browser.post("/sign-in", data=form, headers=headers)


def test_a_person_signs_in_through_a_proxy_that_is_set_up_as_documented(
    as_documented: int, coordinator: Served, browser: httpx.Client
) -> None:
    answer = sign_in(browser, coordinator.address)
    assert answer.status_code == 302
    assert browser.get(answer.headers["Location"]).status_code == 200
    cookies = answer.headers.get_list("set-cookie")
    assert cookies and all("Secure" in cookie for cookie in cookies)


def test_plain_http_is_led_to_https_with_the_same_path(as_documented: int, coordinator: Served) -> None:
    answer = httpx.get(f"http://localhost:{as_documented}/runs/7?of=1")
    assert answer.status_code in (301, 308)
    assert answer.headers["Location"].removeprefix(coordinator.address) in (
        "/runs/7?of=1",
        # Caddy takes the standard port for granted, which a test may not use.
        "https://localhost/runs/7?of=1",
    )


def test_an_agents_largest_frame_reaches_the_coordinator(as_documented: int, browser: httpx.Client) -> None:
    answer = browser.patch(
        "/api/agent/v1/blobs/uploads/1", content=bytes(2 << 20), headers={"Upload-Offset": "0"}
    )
    # Not the proxy's own 413: it is FedSlice that misses the token.
    assert (answer.status_code, answer.json()["code"]) == (401, "auth.missing")


def test_a_bundle_of_64_mib_reaches_the_page_that_checks_it(
    as_documented: int, coordinator: Served, browser: httpx.Client
) -> None:
    assert sign_in(browser, coordinator.address).status_code == 302
    answer = browser.post(
        "/log/check",
        data={"csrfmiddlewaretoken": browser.cookies["csrftoken"]},
        files={"bundle": bytes(64 << 20)},
        headers={"Origin": coordinator.address},
    )
    # Read whole, and judged or kept from a lead; a proxy would have said 413.
    assert answer.status_code in (200, 403)


def test_the_secret_links_of_mails_stand_in_no_log_of_the_proxy_or_the_coordinator(
    as_documented: int, browser: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    invitation, reset = "fs_" + "aZ-_1" * 8 + "b42", "c8xz1k-" + "0a" * 16
    assert browser.get(f"/invitations/{invitation}/").status_code == 410
    assert browser.get(f"/password/Mg/{reset}/").status_code == 200
    assert browser.post(f"/password/Mg/{reset}/").status_code == 403
    logs = [file.read_text() for file in tmp_path_factory.getbasetemp().rglob("*.log")]
    assert any("/invitations/fs_…/" in log for log in logs) and any("/password/Mg/…/" in log for log in logs)
    assert not any(secret in log for log in logs for secret in (invitation, reset))


def test_health_is_told_to_whoever_asks_this_process_by_any_name(coordinator: Served) -> None:
    for host in ("10.2.3.4:8000", "web", "localhost"):
        answer = httpx.get(f"http://127.0.0.1:{coordinator.port}/healthz", headers={"Host": host})
        assert (answer.status_code, answer.text) == (200, "ok\n")


def test_a_header_spelled_with_underscores_is_not_the_proxys(coordinator: Served) -> None:
    """To WSGI both spellings are one name, and a proxy overwrites only its own."""
    headers = {"Host": f"localhost:{coordinator.tls}", "X_Forwarded_Proto": "https"}
    answer = httpx.get(f"http://127.0.0.1:{coordinator.port}/api/agent/v1/collateral", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "proxy.no_scheme")


LEFT_OUT = {
    "proxy.no_scheme": lambda text: text.replace("proxy_set_header X-Forwarded-Proto $scheme;", ""),
    "proxy.other_host": lambda text: text.replace("proxy_set_header Host $http_host;", ""),
}


@pytest.mark.parametrize("code", sorted(LEFT_OUT))
def test_what_a_proxy_leaves_out_is_named_and_nobody_is_sent_in_circles(
    code: str,
    bare: Served,
    authority: trustme.CA,
    trusted: ssl.SSLContext,
    tmp_path: Path,
) -> None:
    with proxied("nginx", bare, authority, tmp_path, LEFT_OUT[code]):
        page = httpx.get(f"{bare.address}/sign-in", verify=trusted)
        assert page.status_code == 400 and code in page.text
        assert ("X-Forwarded-Proto" if code == "proxy.no_scheme" else "Host header") in page.text
        reported = httpx.get(f"{bare.address}/api/agent/v1/jobs", verify=trusted)
        assert (reported.status_code, reported.json()["code"], reported.json()["responsible"]) == (
            400,
            code,
            "operator",
        )


def test_a_proxy_that_is_not_named_is_told_so_and_believed_nothing(
    state: dict[str, str], authority: trustme.CA, trusted: ssl.SSLContext, tmp_path: Path
) -> None:
    (tmp_path / "proxy").mkdir()
    with serve(state, tmp_path, FEDSLICE_PROXIES="") as served:
        assert "FEDSLICE_PROXIES names no proxy" in served.log
        with proxied("nginx", served, authority, tmp_path / "proxy"):
            page = httpx.get(f"{served.address}/sign-in", verify=trusted)
            assert page.status_code == 400 and "proxy.not_named" in page.text and "127.0.0.1" in page.text
            # Nor is anybody who reaches the port itself and claims to have come by https.
            forged = {"X-Forwarded-Proto": "https", "Host": f"localhost:{served.tls}"}
            assert httpx.get(f"http://127.0.0.1:{served.port}/sign-in", headers=forged).status_code == 400


def test_a_form_from_another_address_is_told_apart_from_one_that_is_too_old(
    bare: Served, authority: trustme.CA, trusted: ssl.SSLContext, tmp_path: Path
) -> None:
    with (
        proxied("nginx", bare, authority, tmp_path),
        httpx.Client(base_url=bare.address, verify=trusted) as browser,
    ):
        elsewhere = sign_in(browser, "https://fedslice.old-name.example")
        assert elsewhere.status_code == 403
        assert "https://fedslice.old-name.example" in elsewhere.text and bare.address in elsewhere.text
        assert "X-Forwarded-Proto" in elsewhere.text
        browser.cookies.clear()
        late = browser.post("/sign-in", data={"username": LENA}, headers={"Origin": bare.address})
        assert late.status_code == 403 and "This form was too old" in late.text
