"""Hospitals for the conductor's tests: agents that speak plain HTTP and own real client slices.

The product's agent is `site_agent`; this one can also misbehave, pause at a chosen moment, and come back.
"""

from __future__ import annotations

import hashlib
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.bound_request import bind_request
from contracts.endorsement import endorse
from contracts.evidence import Claims
from contracts.kept_keys import signing_secret
from contracts.manifest import Manifest, parse
from contracts.receipt_chain import parse_receipt
from contracts.receipts import NO_RECEIPT, receipt_hash
from contracts.roster import countersign, parse_roster
from contracts.row_writing import write_row
from contracts.rows import TextLabel, read_row
from contracts.sealed.escrow import Escrow
from contracts.sealed.handback import HandedBack, hand_back
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.session import encode
from contracts.sealed.shards import wrap_keys
from contracts.sealed.shares import withdraw
from contracts.signing import SigningKey
from site_agent.backoff import pause
from site_agent.datasets.card import content_digest
from site_agent.methods.method_2.features import CachedIndex, FeatureCache
from tests.support.instances import HERE
from tests.support.loose_host import LooseHost
from transparency_log.messages import warm_up_message_decoders

FRAME = 1 << 20
HEARTBEAT_SECONDS = 5.0
WAIT_SECONDS = 2
PATIENCE_SECONDS = 60.0
logging.getLogger("httpx").setLevel(logging.WARNING)
warm_up_message_decoders()  # the hospitals are threads of one process here
LABELS = ("routine", "urgent")
WORDS = {
    "routine": ["checkup", "renewal", "letter", "vaccine", "travel"],
    "urgent": ["chest", "pain", "bleeding", "seizure", "stroke"],
}
COMMON = ["patient", "with", "asks", "about", "since", "the", "morning", "a", "of", "today"]


def make_model(folder: Path) -> None:
    """A BERT of two layers with random weights and a word-level vocabulary."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *COMMON, *WORDS["routine"], *WORDS["urgent"]]
    folder.mkdir(parents=True)
    BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(1)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(
        BertConfig(vocab_size=len(words), max_position_embeddings=32, initializer_range=0.2, **size)
    ).save_pretrained(folder)


def make_rows(file: Path, site: str, train: int = 16, test: int = 8) -> None:
    draw = random.Random(site)
    with file.open("wb") as out:
        for number, split in enumerate(("train",) * train + ("validation",) * test + ("test",) * test):
            label = LABELS[number % 2]
            words = draw.choices(COMMON, k=4) + draw.choices(WORDS[label], k=2)
            draw.shuffle(words)
            out.write(write_row(TextLabel(" ".join(words), label, split)))


class Refused(Exception):
    """An error of the agents' API: `code` and the HTTP `status`."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body.get('code')}: {body.get('message')} {body.get('facts')}")
        self.status, self.code, self.body = status, body.get("code"), body


@dataclass
class Api:
    """The agents' API as one site sees it."""

    url: str
    site: str
    key: SigningKey
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    def headers(self, method: str, path: str, body: bytes) -> dict[str, str]:
        now = int(time.time())
        claims = {
            "iss": self.site,
            "sub": self.site,
            "aud": "fedslice-coordinator",
            "iat": now,
            "exp": now + 60,
            "jti": secrets.token_hex(16),
            **bind_request(method, path, body)._asdict(),
            **HERE._asdict(),
        }
        private = Ed25519PrivateKey.from_private_bytes(signing_secret(self.key))
        return {"Authorization": "Bearer " + jwt.encode(claims, private, algorithm="EdDSA")}

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        request = self.client.build_request(method, f"{self.url}/api/agent/v1/{path}", **options)
        target = request.url.raw_path.decode()
        request.headers.update(self.headers(method, target, request.read()))
        response = self.client.send(request)
        if response.status_code >= 400:
            raise Refused(response.status_code, response.json())
        return response

    def call(self, method: str, path: str, body: Any = None) -> Any:
        response = self.send(method, path, **({} if body is None else {"json": body}))
        return response.json() if response.content else None

    def upload(self, data: bytes, run: str, **more: Any) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        began = self.call("POST", "blobs", {"sha256": sha256, "bytes": len(data), "run": run, **more})
        offset = began["offset"]
        while offset < len(data):
            offset = self.frame(began["upload"], offset, data[offset : offset + FRAME])
        return sha256

    def frame(self, upload: str, offset: int, frame: bytes) -> int:
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"}
        sent = self.send("PATCH", f"blobs/uploads/{upload}", content=frame, headers=headers)
        return sent.json()["offset"]

    def download(self, sha256: str) -> bytes:
        return self.send("GET", f"blobs/{sha256}").content


@dataclass
class Hospital:
    """One agent: its key, its rows, its platform, its client slice. `hooks` are called before a job of a
    kind."""

    api: Api
    folder: Path
    model: Path
    rows: Path
    platform: Path
    hooks: dict[str, Callable[[dict[str, Any]], Any]] = field(default_factory=dict)
    slice: LooseHost | None = None
    admitted_by: str = ""
    done: list[str] = field(default_factory=list)
    lives: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    error: BaseException | None = None
    share_key: HpkeKey = field(default_factory=HpkeKey.generate)
    last_receipt: str = ""
    dataset_key: bytes = b""

    @property
    def site(self) -> str:
        return self.api.site

    def start(self) -> None:
        """Start the agent, unless it runs: two of one site would take each other's jobs."""
        if self.thread is not None and self.thread.is_alive() and not self.stopping.is_set():
            return
        self.stopping.clear()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        if self.thread is not None:
            self.thread.join(60)
        if self.slice is not None:
            self.slice.kill()
            self.slice = None
            self.admitted_by = ""

    def _run(self) -> None:
        reported = float("-inf")
        try:
            while not self.stopping.is_set():
                try:
                    if time.monotonic() - reported > HEARTBEAT_SECONDS:
                        body = {"agent_version": "0.1", "runtime": "development"}
                        self.api.call("POST", "heartbeat", body)
                        reported = time.monotonic()
                    answer = self.api.send("POST", "lease", json={"wait": WAIT_SECONDS})
                except (Refused, httpx.TransportError) as error:
                    if getattr(error, "status", 503) != 503:
                        raise
                    self.stopping.wait(0.3)
                    continue
                if answer.content:
                    self.perform(answer.json())
                elif "retry-after" in answer.headers:  # it was not kept waiting
                    self.stopping.wait(0.3)
        except BaseException as error:
            self.error = error
            raise

    def perform(self, job: dict[str, Any]) -> None:
        hook = self.hooks.get(job["kind"])
        if hook is not None and hook(job) == "leave":
            return
        try:
            self.persist(job)
            self.done.append(f"{job['kind']} {job['round']}")
        except Refused as refused:
            self.done.append(f"{job['kind']} {job['round']} {refused.code}")
        except Exception as error:
            code = getattr(error, "code", None)
            if code is None:
                raise
            self.done.append(f"{job['kind']} {job['round']} {code}")
            self.api.call(
                "POST", f"jobs/{job['id']}/failure", {"lease": job["lease"], "code": code, "facts": {}}
            )

    def persist(self, job: dict[str, Any]) -> None:
        """As agents do: who is away for now (503, a broken line) is asked again, after their pauses, for a
        minute."""
        began, attempt = time.monotonic(), 0
        while True:
            try:
                result = getattr(self, job["kind"])(job)
                self.api.call("POST", f"jobs/{job['id']}/result", {"lease": job["lease"], **result})
                return
            except (Refused, httpx.TransportError) as error:
                seconds = pause(attempt)
                late = time.monotonic() - began + seconds > PATIENCE_SECONDS
                if getattr(error, "status", 503) != 503 or late or self.stopping.wait(seconds):
                    raise
            attempt += 1

    def progress(self, job: dict[str, Any], stage: str = "working") -> None:
        self.api.call("POST", f"jobs/{job['id']}/progress", {"lease": job["lease"], "stage": stage})

    def join(self, job: dict[str, Any]) -> dict[str, Any]:
        self.ensure_admitted(job)
        return {}

    def publish(self) -> dict[str, Any]:
        """What a dataset's card says of the rows, under a key that no earlier run knew."""
        self.dataset_key = secrets.token_bytes(32)
        lines = self.rows.read_bytes().splitlines()
        kind = type(read_row(lines[0])).__struct_config__.tag
        return {"rows": len(lines), "digest": content_digest(self.rows, self.dataset_key), "kind": kind}

    def ensure_admitted(self, job: dict[str, Any]) -> None:
        run = job["run"]
        reported = self.api.call("GET", f"runs/{run}/manifest")
        if self.slice is None or not self.slice.alive:
            self.lives += 1
            folder = self.folder / f"slice-{self.lives}"
            self.slice = LooseHost.start("client_slice", "development", folder, self.platform)
            self.slice.call("bind", manifest=reported["manifest"], approvals=reported["approvals"])
            rows = {"dataset": str(self.rows), "site": self.site, "key": self.dataset_key.hex()}
            self.slice.call("load", model=str(self.model), **rows)
            self.admitted_by = ""
        if self.admitted_by == job["inputs"]["enclave"]:
            return
        nonce = self.slice.call("challenge")["nonce"]
        shown = self.api.call("POST", f"runs/{run}/aggregator/evidence", {"nonce": nonce})
        evidence = {name: shown[name] for name in ("quote", "collateral", "claims")}
        about = f"manifest={parse(reported['manifest'].encode()).hash}"
        asked = {"manifest": "", "appraisal": f"&key={evidence['claims']['signing_key']}"}
        logged = {
            kind: self.api.call("GET", f"log/proof?kind={kind}&{about}{key}") for kind, key in asked.items()
        }
        self.slice.call("admit", evidence=evidence, logged=logged)
        nonce = self.api.call("POST", f"runs/{run}/aggregator/challenge", {})["nonce"]
        own = self.slice.call("evidence", nonce=nonce)
        claims = msgspec.convert(own["claims"], Claims)
        collateral = self.api.call("GET", "collateral")["sgx"]
        verdict = self.api.call(
            "POST",
            f"runs/{run}/aggregator/admit",
            {"evidence": own | {"collateral": collateral}, "endorsement": endorse(claims, self.api.key)},
        )
        assert verdict["verdict"] == "accepted", verdict
        self.admitted_by = job["inputs"]["enclave"]

    def features(self, job: dict[str, Any]) -> dict[str, Any]:
        """Method 2: compute what is not there yet, bring the shards up, wrap their keys."""
        manifest = self.manifest(job)
        kept = self.store(job).kept() or self.store(job).make(self.model, self.rows, lambda *_news: None)
        for place, shard in enumerate(kept.index.shards):
            data = self.store(job).file(place, kept.index).read_bytes()
            assert self.api.upload(data, job["run"], kind="shard") == shard.sha256
        return self.wrap(job, kept, manifest.hash)

    def rewrap(self, job: dict[str, Any]) -> dict[str, Any]:
        kept = self.store(job).kept()
        assert kept is not None
        return self.wrap(job, kept, self.manifest(job).hash)

    def wrap(self, job: dict[str, Any], kept: CachedIndex, manifest: str) -> dict[str, Any]:
        body = {"nonce": secrets.token_hex(32)}
        shown = self.api.call("POST", f"runs/{job['run']}/aggregator/evidence", body)
        sealed = BytesIO()
        keys = [bytes.fromhex(key) for key in kept.keys]
        receiver = shown["claims"]["hpke_key"]
        wrap_keys(
            kept.index,
            keys,
            sealed,
            manifest=manifest,
            receiver=receiver,
            signer=self.api.key,
            receipt=self.named(job),
            share_key=self.share_key.public if self.holds_shares(job) else None,
            share=self.withdrawn(job),
        )
        sha256 = self.api.upload(sealed.getvalue(), job["run"])
        size = len(sealed.getvalue())
        return {"index": msgspec.to_builtins(kept.index), "keys": {"sha256": sha256, "bytes": size}}

    def share(self, job: dict[str, Any]) -> dict[str, Any]:
        """Method 2: name the last receipt to the enclave that serves or releases, and hand a share back."""
        manifest = self.manifest(job).hash
        body = {"nonce": secrets.token_hex(32)}
        shown = self.api.call("POST", f"runs/{job['run']}/aggregator/evidence", body)
        sealed = hand_back(
            HandedBack(self.named(job), self.withdrawn(job)),
            manifest=manifest,
            site=self.site,
            receiver=shown["claims"]["hpke_key"],
            signer=self.api.key,
        )
        return {"share": encode(sealed)}

    def named(self, job: dict[str, Any]) -> str:
        """Hash of the run's last receipt as the coordinator tells it, or what the test wants told."""
        reported, after = NO_RECEIPT, 0
        while given := self.api.call("GET", f"runs/{job['run']}/receipts?after={after}")["receipts"]:
            last = parse_receipt(given[-1]).receipt
            reported, after = receipt_hash(last), last.round
        return self.last_receipt or reported

    def holds_shares(self, job: dict[str, Any]) -> bool:
        split = self.manifest(job).split
        return split is not None and split.shares is not None

    def withdrawn(self, job: dict[str, Any]) -> bytes | None:
        """This site's share of the state's key, where the coordinator brings it."""
        reported = job["inputs"].get("escrow")
        if reported is None:
            return None
        escrow = msgspec.convert(reported, Escrow)
        return withdraw(escrow, self.site, self.share_key, self.manifest(job).hash)

    def manifest(self, job: dict[str, Any]) -> Manifest:
        return parse(self.api.call("GET", f"runs/{job['run']}/manifest")["manifest"].encode())

    def store(self, job: dict[str, Any]) -> FeatureCache:
        return FeatureCache(self.folder / "features", self.manifest(job), self.site)

    def train(self, job: dict[str, Any], op: str = "train") -> dict[str, Any]:
        self.ensure_admitted(job)
        self.progress(job, "training")
        assert self.slice is not None
        previous = job["inputs"]["previous"]
        if previous is not None:
            file = self.folder / previous["sha256"]
            file.write_bytes(self.api.download(previous["sha256"]))
            self.slice.mailbox.deliver(file, previous["sha256"])
            previous = {name: previous[name] for name in ("sha256", "receipt", "reissue")}
        made = self.slice.call(op, round=job["round"], previous=previous)
        data = self.slice.mailbox.collect(made["update"]["sha256"]).read_bytes()
        self.api.upload(data, job["run"])
        return {name: made[name] for name in ("update", "samples")}

    def evaluate(self, job: dict[str, Any]) -> dict[str, Any]:
        return self.train(job, "evaluate")

    def countersign(self, job: dict[str, Any]) -> dict[str, Any]:
        return {"countersignature": countersign(parse_roster(job["inputs"]["roster"]), self.api.key)}
