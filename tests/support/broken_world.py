"""A hospital's network with all in it that can be broken: authorities, certificates, proxies, files."""

from __future__ import annotations

import ssl
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote

import certifi
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from contracts.signing import SigningKey
from site_agent.state import Config, State
from tests.support import broken_network as net
from tests.support.namespaces import PYTHON

NAMES = ("localhost", "127.0.0.1", "::1")
DNS = """
import socket
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.bind(("127.0.0.1", 53))
print("ready", flush=True)
while True:
    asked, who = line.recvfrom(512)
    line.sendto(asked[:2] + b"\\x81\\x83" + asked[4:6] + bytes(6) + asked[12:], who)
"""
"""A name server that knows no name (RFC 1035: response code 3)."""


@dataclass
class World:
    """`ports` by what listens there; `files` by what they hold. Both may be named in braces in the table."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)

    def filled(self, text: str) -> str:
        return text.format(**self.ports, **self.files)

    def script(self, text: str, state: Path) -> str:
        """`filled` for a shell, with the state folder and a server of names that it can start."""
        log = quote(f"{state}.log")
        dns = f'{PYTHON} {quote(str(self.files["dns"]))} >{log} 2>&1 & trap "kill $!" EXIT; '
        dns += f"until grep -qs ready {log}; do sleep 0.1; done"
        files = {name: quote(str(path)) for name, path in self.files.items()}
        return text.format(**self.ports, **{**files, "state": quote(str(state)), "dns": dns})

    def enrolled(self, name: str, address: str, ca_bundle: str | None, site: str) -> State:
        """A new state folder of an agent that is enrolled at `address`."""
        state = State.open(self.folder / "sites" / name)
        _ = state.key, state.dataset_key
        config = Config(
            coordinator=address, site="site-1", name=site, approval_key=SigningKey.generate().public,
            ca_bundle=ca_bundle,
        )  # fmt: skip
        state.save(config)
        state.platform.mkdir(mode=0o700)
        (state.platform / "pck-chain.pem").touch()
        return state


@contextmanager
def made(folder: Path) -> Iterator[World]:
    """The whole world, listening."""
    world = World(folder)
    now = datetime.now(UTC)
    authority = trustme.CA(organization_name="Coordinator Authority")
    hospital = trustme.CA(organization_name="Hospital Inspection")
    private = trustme.CA(organization_name="Unheard Of")
    middle = trustme.CA(parent_cert=authority, organization_name="Middle Authority")
    good = authority.issue_cert(*NAMES)
    long_ago = now - timedelta(days=9)
    begins, ended = now + timedelta(days=3), now - timedelta(days=2)
    shown = {
        "good": _context(good),
        "expired": _context(authority.issue_cert(*NAMES, not_before=long_ago, not_after=ended)),
        "early": _context(authority.issue_cert(*NAMES, not_before=begins)),
        "soon": _context(authority.issue_cert(*NAMES, not_after=now + timedelta(days=5))),
        "other_name": _context(authority.issue_cert("fedslice.example")),
        "self_signed": _self_signed(folder / "self.pem"),
        "leaf_only": _context(middle.issue_cert(*NAMES), chain=False),
        "whole_chain": _context(middle.issue_cert(*NAMES)),
        "private": _context(private.issue_cert(*NAMES)),
        "old": _old(_context(good)),
    }
    inspected = _context(hospital.issue_cert(*NAMES))
    proxies = {
        "proxy": net.proxy(lambda head: net.OPEN),
        "password": net.proxy(net.asks_for_a_password),
        "negotiate": net.proxy(net.says("407 Authentication", "Proxy-Authenticate: Negotiate")),
        "forbids": net.proxy(net.says("403 Forbidden")),
        "gateway": net.proxy(net.says("502 Bad Gateway")),
        "website": net.proxy(net.says("405 Method Not Allowed")),
        "inspects": net.proxy(lambda head: net.OPEN, inspected),
        "by_tls": net.by_tls(_context(good), net.proxy(lambda head: net.OPEN)),
        "by_private_tls": net.by_tls(_context(private.issue_cert(*NAMES)), net.silent),
        "silent": net.silent,
        "hangs_up": net.hangs_up,
        "ssh": net.ssh,
        "plain": net.coordinator,
    }
    with ExitStack() as stack:
        for name, context in shown.items():
            world.ports[name] = stack.enter_context(net.listening(net.by_tls(context, net.coordinator)))
        for name, serve in proxies.items():
            world.ports[name] = stack.enter_context(net.listening(serve))
        six = net.by_tls(_context(good), net.coordinator)
        world.ports["six"] = stack.enter_context(net.listening(six, "::1"))
        with net.listening(net.silent) as world.ports["closed"]:
            pass
        _write_files(world, authority, hospital)
        yield world


def _write_files(world: World, authority: trustme.CA, hospital: trustme.CA) -> None:
    def file(name: str, data: bytes) -> Path:
        world.files[name] = world.folder / f"{name}.pem"
        world.files[name].write_bytes(data)
        return world.files[name]

    whole = authority.cert_pem.bytes()
    file("ca", whole)
    file("both", whole + hospital.cert_pem.bytes())
    file("inspection", hospital.cert_pem.bytes())
    file("empty", b"")
    file("text", b"This is no certificate.\n")
    file("locked", whole).chmod(0)
    file("public", Path(certifi.where()).read_bytes() + whole)
    world.files["nowhere"] = world.folder / "nowhere.pem"
    for name, held in (("store", whole), ("inspected_store", hospital.cert_pem.bytes()), ("bare", b"")):
        world.files[name] = world.folder / name
        world.files[name].mkdir()
        if held:
            (world.files[name] / "ca.pem").write_bytes(held)
            subprocess.run(["openssl", "rehash", str(world.files[name])], check=True, capture_output=True)
    for name, server in (("dead_dns", "192.0.2.53"), ("own_dns", "127.0.0.1")):
        file(name, f"nameserver {server}\noptions timeout:1 attempts:1\n".encode())
    world.files["dns"] = world.folder / "dns.py"
    world.files["dns"].write_text(DNS)
    world.files["certifi"] = Path(certifi.where())
    world.files["system"] = Path(ssl.get_default_verify_paths().openssl_capath).resolve()


def _context(leaf: trustme.LeafCert, *, chain: bool = True) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    sent = b"".join(blob.bytes() for blob in (leaf.cert_chain_pems if chain else leaf.cert_chain_pems[:1]))
    with trustme.Blob(leaf.private_key_pem.bytes() + sent).tempfile() as path:
        context.load_cert_chain(path)
    return context


def _old(context: ssl.SSLContext) -> ssl.SSLContext:
    """Speaks nothing newer than TLS 1.1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _self_signed(file: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    held = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + signed.public_bytes(pem)
    file.write_bytes(held)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
