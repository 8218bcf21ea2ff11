"""Render a program's Gramine manifest from its template, and refuse one that would protect nothing.

    python -m enclave_host.gramine.render client_slice --python PYTHON --venv DIR --out DIR

The templates use Jinja, as Gramine's own `gramine-manifest` does. Rendered manifests for SGX must be the same
bytes on every host that shall have the same MRENCLAVE: same paths (one container image, by its digest), same
options, and the mailbox as ".", the folder in which the host starts Gramine. While images.env is unlocked a
manifest is rendered only for `gramine-direct` (`--platform`).
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from attestation.measured import PROGRAMS, TREE
from attestation.measurement import measured_files
from contracts.policy import Program
from contracts.refusal import Refusal
from enclave_host.gramine import schema, trusted
from enclave_host.images import require_locked
from error_catalogue import explain

TEMPLATES = TREE / "enclave" / "measured"
ENTRYPOINT = "libsysdb.so"
GRAMINE_LIB = "/usr/lib/x86_64-linux-gnu/gramine"
CHANNEL = "channel"
"""The folder of the mailbox through which a client slice shares memory with its accelerator."""
ENCLAVE_SIZES: dict[Program, str] = {"aggregator": "4G", "client_slice": "8G", "split_server": "64G"}


@dataclass(frozen=True)
class Values:
    """What a template needs from the host. Paths are absolute, but `mailbox` may be "."; `platform` (the
    development platform's folder) is for `gramine-direct` only."""

    python: str
    stdlib: str
    packages: str
    code: str
    mailbox: str = "."
    platform: str = ""
    gramine_lib: str = GRAMINE_LIB
    threads: int = 4
    enclave_size: str = "4G"
    edmm: bool = False


def values_for(
    program: Program, python: Path | None = None, venv: Path | None = None, **others: Any
) -> Values:
    """The values for an interpreter and a virtual environment; by default, those that run this.

    Raises: `gramine.bad_path` if the interpreter, its library or the packages are not there.
    """
    executable = (python or Path(sys.executable)).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = executable == Path(sys.executable).resolve()
    stdlib = Path(sysconfig.get_path("stdlib")) if own else executable.parents[1] / "lib" / version
    packages = (venv or Path(sys.prefix)).resolve() / "lib" / version / "site-packages"
    for what, path in (("python", executable), ("stdlib", stdlib / "os.py"), ("venv", packages)):
        if not path.exists():
            raise Refusal("gramine.bad_path", what=what, fault=f"{path} does not exist")
    found = {"python": executable, "stdlib": stdlib, "packages": packages, "code": TREE}
    size = {"enclave_size": ENCLAVE_SIZES[program]}
    return Values(**{**{name: str(path) for name, path in found.items()}, **size, **others})


def render(program: Program, values: Values) -> str:
    """The checked manifest, as TOML text: it trusts what is measured of our code, and what the program loads
    beside it (`enclave_host.gramine.trusted`), file by file, each with its hash.

    Raises: `gramine.*` or `measurement.missing`.
    """
    if program not in PROGRAMS:
        raise Refusal("gramine.unknown_program", program=str(program)[:40])
    _check_paths(asdict(values))
    template = (TEMPLATES / f"{program}.manifest.template").read_text()
    environment = Environment(  # noqa: S701 - TOML, not HTML; _check_paths keeps quotes out
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    prefix = "" if values.mailbox == "." else f"{values.mailbox.rstrip('/')}/"
    libraries, files = trusted_files(program, values)
    entrypoint = Path(values.gramine_lib, ENTRYPOINT)
    text = environment.from_string(template).render(
        **asdict(values),
        measured=list(measured_files(program)),
        libraries=libraries,
        trusted=files,
        entrypoint={"uri": f"file:{entrypoint}", "sha256": trusted.sha256(entrypoint)},
        stdlib_name=Path(values.stdlib).name,
        mailbox_prefix=prefix,
    )
    try:
        manifest = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refusal("gramine.not_toml", fault=str(error)[:200]) from error
    schema.check(manifest)
    check_production(manifest, values.platform)
    return text


def trusted_files(program: Program, values: Values) -> tuple[dict[str, str], dict[str, str]]:
    """Name → path of the libraries that are mounted one by one, and path → SHA-256 of every trusted file.

    Raises: `gramine.bad_path` or `measurement.missing`.
    """
    packages = Path(values.packages)
    brought = trusted.packages(program, packages)
    stdlib = trusted.standard_library(Path(values.stdlib))
    linked = [Path(values.python), *filter(trusted.is_library, [*brought, *stdlib])]
    libraries = trusted.libraries(linked, packages)
    files = [Path(values.python), *trusted.glibc(Path(values.gramine_lib)), *libraries.values()]
    hashes = {str(file): trusted.sha256(file) for file in [*files, *stdlib, *brought]}
    hashes |= {f"{values.code}/{name}": sha256 for name, sha256 in measured_files(program).items()}
    _check_paths({path: path for path in hashes})
    return {name: str(path) for name, path in libraries.items()}, hashes


def check_production(manifest: dict[str, Any], platform: str = "") -> None:
    """Refuse (`gramine.insecure`) a manifest, already checked against the schema, that gives the host a
    way in: debug, no DCAP, an `insecure__` or debugging key, a choice of arguments or environment,
    unprotected files outside the mailbox, or protected and unprotected files that overlap. The folder
    `platform` of a development platform may be read unprotected: it is for `gramine-direct` only."""
    sgx, loader = manifest.get("sgx", {}), manifest["loader"]
    mailboxes = [mount["uri"] for mount in manifest["fs"]["mounts"] if mount["path"] == "/mailbox"]
    allowed = sgx.get("allowed_files", [])
    protected = [item["uri"] for item in sgx.get("trusted_files", [])]
    outside = {f"file:{platform}/"} if platform else set()
    shared = [mount["uri"] for mount in manifest["fs"]["mounts"] if mount.get("type") == "untrusted_shm"]
    faults = {
        "it can be debugged": sgx.get("debug", False),
        "remote attestation is not dcap": sgx.get("remote_attestation") != "dcap",
        "files that it does not list may be opened": sgx.get("file_check_policy", "strict") != "strict",
        "it has an insecure or debugging key": any(map(_is_insecure, _keys(manifest))),
        "it profiles the enclave": "profile" in sgx or sgx.get("vtune_profile") or sgx.get("enable_stats"),
        "it may start other processes": not manifest.get("sys", {}).get("disallow_subprocesses", False),
        "its arguments are not fixed": not loader.get("argv") or "argv_src_file" in loader,
        "it takes environment variables from the host": "env_src_file" in loader
        or any(
            isinstance(value, dict) and "passthrough" in value for value in loader.get("env", {}).values()
        ),
        "its log says more than errors": loader.get("log_level", "error") not in ("none", "error"),
        "it has not exactly one mailbox": len(mailboxes) != 1,
        "the host may change a file outside the mailbox": bool(mailboxes)
        and not all(uri in outside or _inside(uri, mailboxes[0]) for uri in allowed),
        "it shares memory elsewhere than in the mailbox": not all(
            bool(mailboxes) and _inside(uri.replace("dev:", "file:", 1), mailboxes[0]) for uri in shared
        ),
        "a protected file lies in a folder that the host may change": any(
            uri == other or (other.endswith("/") and uri.startswith(other))
            for uri in protected
            for other in allowed
        ),
    }
    for fault, found in faults.items():
        if found:
            raise Refusal("gramine.insecure", fault=fault)


def _check_paths(values: dict[str, Any]) -> None:
    for what, value in values.items():
        if not isinstance(value, str) or what == "enclave_size" or (what == "platform" and not value):
            continue
        if any(ord(sign) < 32 or sign in "\"'\\" for sign in value):
            raise Refusal("gramine.bad_path", what=what, fault="quotes, backslashes or control characters")
        if not value.startswith("/") and (what, value) != ("mailbox", "."):
            raise Refusal("gramine.bad_path", what=what, fault="it is not absolute")


def _inside(uri: str, mailbox: str) -> bool:
    path = uri.removeprefix("file:")
    if ".." in path.split("/") or not uri.startswith("file:"):
        return False
    return not path.startswith("/") if mailbox == "file:." else uri.startswith(mailbox.rstrip("/") + "/")


def _is_insecure(key: str) -> bool:
    return key.startswith(("insecure__", "debug__", "experimental__"))


def _keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for item in value.values() for key in _keys(item))]
    return [key for item in value for key in _keys(item)] if isinstance(value, list) else []


def main(arguments: list[str] | None = None) -> int:
    """Render the Gramine manifest of an enclave program: to stdout, or to DIR/PROGRAM.manifest."""
    parser = argparse.ArgumentParser(prog="python -m enclave_host.gramine.render", description=main.__doc__)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--python", type=Path, help="interpreter (default: this one)")
    parser.add_argument("--venv", type=Path, help="virtual environment with the packages (default: this one)")
    parser.add_argument("--mailbox", default=".", help='host folder (default ".", where Gramine is started)')
    parser.add_argument(
        "--platform", default="", help="development platform's folder, for gramine-direct only"
    )
    parser.add_argument(
        "--gramine-lib", default=GRAMINE_LIB, help="folder of libsysdb.so (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=4, help="compute threads (default: %(default)s)")
    parser.add_argument("--enclave-size", help="such as 8G (default: by program)")
    parser.add_argument("--edmm", action="store_true", help="memory on demand (SGX2 processors)")
    parser.add_argument("--out", type=Path, help="folder for PROGRAM.manifest")
    options = vars(parser.parse_args(arguments))
    program, out = options.pop("program"), options.pop("out")
    if options["enclave_size"] is None:
        del options["enclave_size"]
    try:
        if not options["platform"]:
            require_locked()
        text = render(program, values_for(program, options.pop("python"), options.pop("venv"), **options))
    except Refusal as refusal:
        sys.stderr.write(f"{refusal} {explain(refusal.code, refusal.facts).hint}\n")
        return 1
    if out is None:
        sys.stdout.write(text)
    else:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{program}.manifest").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
