"""The state folder of a site agent: who the site is, its keys, and where everything else lies.

| path | what |
|---|---|
| site.key, dataset.key | the agent's Ed25519 key and the key of its dataset digests; made here, never sent |
| approval.key | the approval key, sealed by a passphrase; a hospital may keep it elsewhere |
| share.key | the HPKE key for the site's shares of a server enclave's state key; made here, never sent |
| config.json | the coordinator's address and what the agent was told at enrolment |
| platform/ | the development platform (quoting key, chain, sealing secret) |
| datasets/ | catalogue.json, and each dataset normalised to one JSON object a line |
| release-statement.json | the newest release statement that was accepted |
| members.json | the hospitals whose keys were compared with a letter or call |
| approved/ | the manifests that were approved here, with the signature that was given |
| ledger.json | what each dataset has told over all runs, and its budget (site_agent/ledger/) |
| rosters/ | each roster that was countersigned: at most one for a (manifest, round) |
| floors.json | the highest numbers of collateral that the agent has accepted, over all runs |
| log/, receipts/ | the last checkpoint of the transparency log, and the receipts seen |
| features/ | by origin: sealed shards of features with their keys; in clear, behind a public front |
| prepared/ | base models as masked client slices take them, by model and task, made here |
| runs/ | mailboxes and sealed files of the runs in progress |

All of it is readable by its owner only. A copy of this folder is a second agent with the same key, and with
two the roster book can no longer keep its promise: the coordinator refuses every machine but one
(contracts/instance.py), until `move` names another. A copy approves nothing: that takes the approval key's
passphrase.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from contracts.kept_keys import HPKE_SECRET_BYTES, hpke_key, signing_key
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.sealed.hpke import HpkeKey
from contracts.signing import SigningKey
from site_agent.files import create_private, private_folder, write_private

Runtime = Literal["development", "direct", "sgx", "tdx"]


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """What enrolment fixed. `coordinator` is a base URL without a slash at its end. `release_key` is the
    fingerprint of the project's release key, which a person typed; None on development runtimes alone.
    `log_key` is the fingerprint of the key of the coordinator's transparency log. `approval_key` is the
    public half (hex) of the key that approves for this site, `former_keys` those that did before, for the
    runs that were approved with them; `approval_file` is where it lies, if not in the state folder. `storage`
    is the only other host (scheme://host[:port]) to which sealed files may go; None: to the coordinator
    alone."""

    coordinator: str
    site: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}\Z")]
    name: str
    approval_key: Hex32
    runtime: Runtime = "development"
    ca_bundle: str | None = None
    insecure_http: bool = False
    release_key: str | None = None
    log_key: str | None = None
    approval_file: str | None = None
    former_keys: tuple[Hex32, ...] = ()
    storage: str | None = None


class State:
    """One state folder. Nothing is made before it is needed; `open` makes the folder itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.platform = folder / "platform"
        self.datasets = folder / "datasets"
        self.approved = folder / "approved"
        self.rosters = folder / "rosters"
        self.log = folder / "log"
        self.receipts = folder / "receipts"
        self.runs = folder / "runs"
        self.features = folder / "features"
        self.prepared = folder / "prepared"

    @classmethod
    def open(cls, folder: Path | None = None) -> State:
        """The folder given, else FEDSLICE_SITE_STATE, else `~/.fedslice-site`."""
        chosen = folder or Path(os.environ.get("FEDSLICE_SITE_STATE") or "~/.fedslice-site")
        try:
            return cls(private_folder(chosen.expanduser().resolve()))
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: this account has no home
            fault = error.strerror if isinstance(error, OSError) else "this account has no home folder"
            if str(error).startswith("Symlink loop"):  # what pathlib says
                fault = "it is a link that leads to itself"
            if isinstance(error, FileExistsError):
                fault = "it is no folder"
            raise Refusal("agent.state_unusable", folder=str(chosen)[:300], fault=fault) from error

    @property
    def approval_file(self) -> Path:
        """Where the approval key lies, by what was said at the enrolment."""
        elsewhere = self.config.approval_file if self.enrolled else None
        return Path(elsewhere) if elsewhere else self.folder / "approval.key"

    @property
    def enrolled(self) -> bool:
        return (self.folder / "config.json").exists()

    @cached_property
    def config(self) -> Config:
        """Raises: `agent.not_enrolled` or `agent.state_damaged`."""
        path = self.folder / "config.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Config)
        except FileNotFoundError as error:
            raise Refusal("agent.not_enrolled", folder=str(self.folder)) from error
        except msgspec.DecodeError as error:
            raise Refusal("agent.state_damaged", file="config.json") from error

    def save(self, config: Config) -> None:
        """Keep `config`; the site is enrolled from now on."""
        write_private(self.folder / "config.json", msgspec.json.format(msgspec.json.encode(config)))
        self.assume(config)

    def assume(self, config: Config) -> None:
        """Act as the site of `config` for this command; nothing is enrolled by that."""
        self.__dict__["config"] = config

    @cached_property
    def key(self) -> SigningKey:
        """The agent's key. It is made before the enrolment, and never leaves this folder."""
        if self.enrolled and not (self.folder / "site.key").exists():
            raise Refusal("agent.state_damaged", file="site.key")
        return signing_key(self._secret("site.key"))

    @cached_property
    def dataset_key(self) -> bytes:
        """The HMAC key of dataset digests (32 bytes): without it a digest confirms nothing to anybody."""
        return self._secret("dataset.key")

    @cached_property
    def share_key(self) -> HpkeKey:
        """What this site's shares of a server's state key are wrapped for (contracts/sealed/shares.py)."""
        return hpke_key(self._secret("share.key", HPKE_SECRET_BYTES))

    def _secret(self, name: str, size: int = 32) -> bytes:
        path = self.folder / name
        if not path.exists():  # so that a full disk hinders nobody who has their keys
            create_private(path, os.urandom(size).hex().encode() + b"\n")
        try:
            secret = bytes.fromhex(path.read_text("ascii").strip())
        except ValueError as error:
            raise Refusal("agent.state_damaged", file=name) from error
        if len(secret) != size:
            raise Refusal("agent.state_damaged", file=name)
        return secret

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held by `run`: two daemons on one folder would disturb each other.

        Raises: `agent.running`.
        """
        descriptor = os.open(self.folder / "run.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Refusal("agent.running", folder=str(self.folder)) from error
            yield
        finally:
            os.close(descriptor)
