"""The keys of a Gramine 1.9 manifest, as data, and a check of a parsed manifest against them.

Source: Gramine's documentation, Documentation/manifest-syntax.rst, and the list that `gramine-manifest`
1.9 checks by (python/graminelibos/manifest_check.py). An enclave that starts does not look for keys that it
does not know, so a misspelt `sgx.debug` would be silent; here it is refused, with no Gramine installed.
Stricter than that list are files: trusted files stand one by one, each with its hash, as the LibOS itself
wants them (libos/src/fs/chroot/trusted.c), under `gramine-direct` as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contracts.refusal import Refusal


@dataclass(frozen=True)
class Scalar:
    """A value of one TOML type; text also of one form or out of a few words."""

    kind: type
    words: str
    pattern: str = ""
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class ListOf:
    """An array whose items are all of this kind."""

    item: Rule


@dataclass(frozen=True)
class TomlTable:
    """A table with these keys; those in `needed` must be there. `rest` rules keys with free names."""

    keys: Mapping[str, Rule] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    rest: Rule | None = None


@dataclass(frozen=True)
class Either:
    """The first rule that has the value's TOML type decides (a string or a table)."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Variants:
    """A table whose allowed keys depend on the value of `by`."""

    by: str
    default: str
    tables: Mapping[str, TomlTable]


Rule = Scalar | ListOf | TomlTable | Either | Variants


def _one_of(*choices: Any) -> Scalar:
    return Scalar(type(choices[0]), "one of " + ", ".join(str(choice) for choice in choices), "", choices)


BOOL = Scalar(bool, "true or false")
COUNT = Scalar(int, "a whole number, not negative", r"\d+")
TEXT = Scalar(str, "text")
SIZE = Scalar(str, "a size such as 512M or 4G", r"\d+[KMG]?")
URI = Scalar(str, "a URI with file: or dev:", r"(file|dev):.+")
FILE = Scalar(str, "a URI with file: that is no folder's", r"file:.*[^/]")
PATH = Scalar(str, "an absolute path", r"/.*")
SHA256 = Scalar(str, "64 hexadecimal digits", r"[0-9a-fA-F]{64}")
MASK64 = Scalar(str, "0x and 16 hexadecimal digits", r"0x[0-9a-fA-F]{16}")
MASK32 = Scalar(str, "0x and 8 hexadecimal digits", r"0x[0-9a-fA-F]{8}")
HARDENING = _one_of("disabled", "required")
FEATURE = _one_of("unspecified", "disabled", "required")


def _mounts(*, with_path: bool) -> Variants:
    path: dict[str, Rule] = {"path": PATH} if with_path else {}
    needed = ("path",) if with_path else ()
    kind: dict[str, Rule] = {"type": _one_of("chroot", "encrypted", "tmpfs", "untrusted_shm")}
    backed = TomlTable({**kind, **path, "uri": URI}, (*needed, "uri"))
    return Variants(
        "type",
        "chroot",
        {
            "chroot": backed,
            "untrusted_shm": backed,
            "encrypted": TomlTable({**kind, **path, "uri": URI, "key_name": TEXT}, (*needed, "uri")),
            "tmpfs": TomlTable({**kind, **path, "uri": TEXT}, needed),
        },
    )


_ENVIRONMENT = TomlTable(
    rest=Either((TEXT, TomlTable({"value": TEXT, "passthrough": _one_of(True)}))),
)

MANIFEST = TomlTable(
    {
        "fs": TomlTable(
            {
                "mounts": ListOf(_mounts(with_path=True)),
                "root": _mounts(with_path=False),
                "start_dir": TEXT,
                "insecure__keys": TomlTable(rest=TEXT),
            },
            ("mounts",),
        ),
        "libos": TomlTable({"entrypoint": PATH, "check_invalid_pointers": BOOL}, ("entrypoint",)),
        "loader": TomlTable(
            {
                "entrypoint": TomlTable({"uri": URI, "sha256": SHA256}, ("uri", "sha256")),
                "argv": ListOf(TEXT),
                "argv_src_file": URI,
                "env": _ENVIRONMENT,
                "env_src_file": URI,
                "uid": COUNT,
                "gid": COUNT,
                "log_level": _one_of("none", "error", "warning", "debug", "trace", "all"),
                "log_file": TEXT,
                "insecure__use_cmdline_argv": BOOL,
                "insecure__use_host_env": BOOL,
                "insecure__disable_aslr": BOOL,
            }
        ),
        "sys": TomlTable(
            {
                "allowed_ioctls": ListOf(
                    TomlTable({"request_code": COUNT, "struct": TEXT}, ("request_code",))
                ),
                "brk": TomlTable({"max_size": SIZE}),
                "debug__mock_syscalls": ListOf(
                    TomlTable({"name": TEXT, "return": Scalar(int, "a whole number")}, ("name",))
                ),
                "disallow_subprocesses": BOOL,
                "enable_extra_runtime_domain_names_conf": BOOL,
                "enable_sigterm_injection": BOOL,
                "experimental__enable_flock": BOOL,
                "fds": TomlTable({"limit": COUNT}),
                "insecure__allow_eventfd": BOOL,
                # The memory layout of an ioctl argument: an array of tables that may nest without end.
                "ioctl_structs": TomlTable(rest=ListOf(Scalar(dict, "a table"))),
                "stack": TomlTable({"size": SIZE}),
            }
        ),
        "sgx": TomlTable(
            {
                "allowed_files": ListOf(URI),
                "cpu_features": TomlTable(
                    {
                        "avx": FEATURE,
                        "avx512": FEATURE,
                        "amx": FEATURE,
                        "mpx": HARDENING,
                        "pkru": HARDENING,
                    }
                ),
                "debug": BOOL,
                "edmm_enable": BOOL,
                "enable_stats": BOOL,
                "enclave_size": SIZE,
                "file_check_policy": _one_of("strict", "allow_all_but_log"),
                "insecure__allow_memfaults_without_exinfo": BOOL,
                "insecure__rpc_thread_num": COUNT,
                "isvprodid": COUNT,
                "isvsvn": COUNT,
                "max_threads": COUNT,
                "preheat_enclave": BOOL,
                "profile": TomlTable(
                    {
                        "enable": _one_of("none", "main", "all"),
                        "mode": _one_of("aex", "ocall_inner", "ocall_outer"),
                        "with_stack": BOOL,
                        "frequency": COUNT,
                    }
                ),
                "remote_attestation": _one_of("none", "dcap"),
                "seal_key": TomlTable({"flags_mask": MASK64, "xfrm_mask": MASK64, "misc_mask": MASK32}),
                "trusted_files": ListOf(TomlTable({"uri": FILE, "sha256": SHA256}, ("uri", "sha256"))),
                "trusted_files_cache_size": SIZE,
                "use_exinfo": BOOL,
                "vtune_profile": BOOL,
            }
        ),
    },
    ("fs", "libos", "loader"),
)


def check(manifest: Mapping[str, Any]) -> None:
    """Raises: `gramine.unknown_key`, `gramine.wrong_type` or `gramine.missing_key`, naming the first
    offending key in dotted form.
    """
    _check(manifest, MANIFEST, "")


def _check(value: Any, rule: Rule, key: str) -> None:
    if isinstance(rule, Scalar):
        _check_scalar(value, rule, key)
    elif isinstance(rule, TomlTable):
        _check_table(value, rule, key)
    elif isinstance(rule, ListOf):
        if not isinstance(value, list):
            raise Refusal("gramine.wrong_type", key=key, expected="an array")
        for index, item in enumerate(value):
            _check(item, rule.item, f"{key}[{index}]")
    elif isinstance(rule, Either):
        _check(value, rule.rules[1] if isinstance(value, dict) else rule.rules[0], key)
    else:
        if not isinstance(value, dict):
            raise Refusal("gramine.wrong_type", key=key, expected="a table")
        kind = value.get(rule.by, rule.default)
        table = rule.tables.get(kind) if isinstance(kind, str) else None
        _check_table(value, table or rule.tables[rule.default], key)


def _check_table(value: Any, rule: TomlTable, key: str) -> None:
    if not isinstance(value, dict):
        raise Refusal("gramine.wrong_type", key=key, expected="a table")
    for name, item in value.items():
        inner = rule.keys.get(name, rule.rest)
        dotted = f"{key}.{name}" if key else name
        if inner is None:
            raise Refusal("gramine.unknown_key", key=dotted[:200])
        _check(item, inner, dotted)
    for name in rule.needed:
        if name not in value:
            raise Refusal("gramine.missing_key", key=f"{key}.{name}" if key else name)


def _check_scalar(value: Any, rule: Scalar, key: str) -> None:
    # bool is an int in Python and not one in TOML, so the type must be exact
    right = (
        type(value) is rule.kind
        and (not rule.choices or value in rule.choices)
        and (not rule.pattern or re.fullmatch(rule.pattern, str(value)) is not None)
    )
    if not right:
        raise Refusal("gramine.wrong_type", key=key, expected=rule.words)
