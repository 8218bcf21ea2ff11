"""The development root and its platforms: what it certifies, what it refuses, who may read its keys."""

import hashlib
import json
import stat
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation import development
from attestation.development_quoting.constants import MARK
from contracts.refusal import Refusal
from tests.attest_sources.conftest import AT


def _csr(key, hash_algorithm=hashes.SHA256()):  # noqa: B008
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Intel SGX PCK Certificate")])
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hash_algorithm)


def _refused(code, function, *arguments, **named):
    with pytest.raises(Refusal) as caught:
        function(*arguments, **named)
    assert caught.value.code == code
    return caught.value


def _certificates(installation):
    chain = x509.load_pem_x509_certificates(installation.chain)
    collateral = development.collateral(installation.root, AT)
    signer = x509.load_pem_x509_certificates(collateral["tcb_info_issuer_chain"].encode())
    return [*chain, *signer]


def test_every_name_in_every_certificate_and_list_says_development_only(installation):
    names = [name for cert in _certificates(installation) for name in (cert.subject, cert.issuer)]
    collateral = development.collateral(installation.root, AT)
    for field in ("root_ca_crl", "pck_crl"):
        names.append(x509.load_der_x509_crl(bytes.fromhex(collateral[field])).issuer)
    assert len(names) >= 12
    for name in names:
        assert all(MARK in str(attribute.value) for attribute in name)
        assert "Intel" not in name.rfc4514_string()


def test_making_the_root_again_changes_nothing(tmp_path):
    development.create_root(tmp_path / "root")
    before = {file.name: file.read_bytes() for file in (tmp_path / "root").iterdir()}
    development.create_root(tmp_path / "root")
    assert {file.name: file.read_bytes() for file in (tmp_path / "root").iterdir()} == before


def test_two_processes_that_make_the_root_at_once_get_the_same_root(tmp_path):
    seen: list[str] = []
    start = threading.Barrier(4)

    def make():
        start.wait()
        development.create_root(tmp_path / "root")
        seen.append(development.root_sha256(tmp_path / "root"))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4
    assert len(set(seen)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_two_installations_have_different_roots(installation, tmp_path):
    development.create_root(tmp_path / "root")
    assert development.root_sha256(tmp_path / "root") != development.root_sha256(installation.root)


def test_root_sha256_is_the_hash_of_the_root_certificate(installation):
    der = development.root_der(installation.root)
    assert development.root_sha256(installation.root) == hashlib.sha256(der).hexdigest()
    root = x509.load_der_x509_certificate(der)
    root.verify_directly_issued_by(root)


def test_private_files_are_for_their_owner_only(installation):
    for folder in (installation.root, installation.host):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        files = list(folder.iterdir())
        assert len(files) >= 4
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_half_a_root_is_refused_and_not_repaired_with_new_keys(tmp_path):
    development.create_root(tmp_path / "root")
    (tmp_path / "root" / "pck-ca.key").unlink()
    refusal = _refused("development.root_incomplete", development.create_root, tmp_path / "root")
    assert refusal.facts["file"] == "pck-ca.key"
    assert not (tmp_path / "root" / "pck-ca.key").exists()


def test_a_request_proves_possession_of_the_key(installation, tmp_path):
    request = development.create_platform(tmp_path / "host")
    csr = x509.load_pem_x509_csr(request)
    other = ec.generate_private_key(ec.SECP256R1())
    point = csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    forged_point = other.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    der = csr.public_bytes(Encoding.DER)
    assert der.count(point) == 1
    forged = x509.load_der_x509_csr(der.replace(point, forged_point)).public_bytes(Encoding.PEM)
    _refused("development.bad_request", development.issue_platform, installation.root, forged)


def test_a_bare_public_key_is_refused(installation):
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _refused("development.bad_request", development.issue_platform, installation.root, pem)


@pytest.mark.parametrize(
    "request_pem",
    [
        b"",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        b"x" * 9000,
        "no PEM, and text",
        _csr(rsa.generate_private_key(65537, 2048)).public_bytes(Encoding.PEM),
        _csr(ec.generate_private_key(ec.SECP384R1())).public_bytes(Encoding.PEM),
    ],
)
def test_a_request_that_is_not_for_a_p256_key_is_refused(installation, request_pem):
    _refused("development.bad_request", development.issue_platform, installation.root, request_pem)


def test_what_a_host_writes_into_its_request_does_not_get_into_the_certificate(installation):
    request = _csr(ec.generate_private_key(ec.SECP256R1())).public_bytes(Encoding.PEM)
    chain = development.issue_platform(installation.root, request.decode())
    assert MARK in x509.load_pem_x509_certificates(chain)[0].subject.rfc4514_string()


def test_a_host_keeps_its_keys_and_its_ppid_when_it_asks_again(installation):
    before = (installation.host / "pck.key").read_bytes()
    again = development.issue_platform(installation.root, development.create_platform(installation.host))
    assert (installation.host / "pck.key").read_bytes() == before

    def extension(chain):
        leaf = x509.load_pem_x509_certificates(chain)[0]
        return leaf.extensions.get_extension_for_oid(
            x509.ObjectIdentifier("1.2.840.113741.1.13.1")
        ).value.value

    assert extension(again) == extension(installation.chain)


def test_the_chain_of_another_host_is_refused(installation, tmp_path):
    development.create_platform(tmp_path / "other")
    _refused("development.wrong_chain", development.install_platform, tmp_path / "other", installation.chain)
    assert not (tmp_path / "other" / "pck-chain.pem").exists()


def test_a_chain_with_a_foreign_root_is_refused(installation, tmp_path):
    development.create_root(tmp_path / "foreign")
    pems = installation.chain.split(b"-----END CERTIFICATE-----\n")
    foreign = (tmp_path / "foreign" / "root.pem").read_bytes()
    mixed = b"-----END CERTIFICATE-----\n".join(pems[:2]) + b"-----END CERTIFICATE-----\n" + foreign
    _refused("development.wrong_chain", development.install_platform, installation.host, mixed)
    for nonsense in (b"", installation.chain * 2, b"\x00" * 40_000):
        _refused("development.wrong_chain", development.install_platform, installation.host, nonsense)


@pytest.mark.parametrize("file", ["pck.key", "attestation.key", "sealing.secret", "pck-chain.pem"])
def test_a_platform_that_lacks_a_file_does_not_open(install, tmp_path, file):
    made = install(tmp_path)
    (made.host / file).unlink()
    assert file in str(
        _refused("development.no_platform", development.load_platform, made.host).facts["fault"]
    )


def test_a_damaged_sealing_secret_does_not_open(install, tmp_path):
    made = install(tmp_path)
    (made.host / "sealing.secret").write_bytes(b"short")
    _refused("development.no_platform", development.load_platform, made.host)


def test_a_platform_never_shows_its_secrets_when_printed(installation):
    shown = repr(installation.platform) + str(installation.platform)
    assert installation.platform.sealing_secret.hex() not in shown
    assert repr(installation.platform.sealing_secret) not in shown


def test_only_the_own_platforms_can_be_revoked(install, installation, tmp_path):
    other = install(tmp_path)
    _refused("development.bad_request", development.revoke_platform, installation.root, other.chain)
    _refused("development.bad_request", development.revoke_platform, installation.root, "nonsense")
    assert json.loads((installation.root / "revoked.json").read_bytes()) == {}


def test_hosts_revoked_at_once_are_all_on_the_list(install, tmp_path):
    made = install(tmp_path)
    chains = [
        development.issue_platform(made.root, development.create_platform(tmp_path / f"host{i}"))
        for i in range(6)
    ]
    threads = [
        threading.Thread(target=development.revoke_platform, args=(made.root, chain), kwargs={"at": AT})
        for chain in chains
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((made.root / "revoked.json").read_bytes())) == 6
