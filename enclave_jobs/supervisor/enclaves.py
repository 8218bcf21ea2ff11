"""The server enclaves of this machine: their processes, their mailboxes, and the way of sealed files to and
fro."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from contracts.policy import Program
from contracts.refusal import Refusal
from contracts.sealed.container import FileRef
from enclave_host.base_models import resolve
from enclave_host.mailbox import HostMailbox
from enclave_host.process import EnclaveProcess
from enclave_jobs.blobs import store as blobs
from enclave_jobs.supervisor.protocol import EnclaveCall, Listing, Model, Room, RunningEnclave
from federation import logs, spans
from federation.sites.services import DEVELOPMENT_RUNTIMES

logger = logging.getLogger(__name__)


@dataclass
class Slot:
    """An enclave that is being started (`process` and `error` are None), lives, or has died."""

    program: Program
    started: threading.Event = field(default_factory=threading.Event)
    process: EnclaveProcess | None = None
    error: Exception | None = None
    awaited: bool = False
    ending: bool = False
    """Is being stopped. Its name is free again once process and folder are gone."""
    stranded: dict[tuple[str, str], msgspec.Raw] = field(default_factory=dict)
    """Results by (run, key) that are not stored and kept yet: what was done inside is not done twice."""

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive


class Enclaves:
    """Starts, calls and stops enclaves by id. Any thread may use it. `tell` is called with the id of an
    enclave that has started, or could not, after somebody had to go without it."""

    def __init__(
        self,
        folder: Path,
        runtimes: list[str],
        platform: Path | None,
        tell: Callable[[str], None] = lambda _enclave: None,
    ) -> None:
        self._tell = tell
        self._folder = folder
        self._runtimes = runtimes
        self._platform = platform
        self._lock = threading.Lock()
        self._slots: dict[str, Slot] = {}
        self.draining = False
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)

    def start(self, enclave: str, program: Program, runtime: str, patience: float) -> bool:
        """Whether the enclave has been started within `patience` seconds; it goes on starting if not.

        An enclave whose process died is not started again under its name: its keys are gone, and whoever
        owns it must learn that. One that is being stopped must have ended first: two programs in one mailbox
        would take each other's greeting.

        Raises: `supervisor.runtime_unavailable` and `program.start_failed`.
        """
        if runtime not in self._runtimes:
            raise Refusal("supervisor.runtime_unavailable", runtime=runtime)
        with self._lock:
            slot = self._slots.get(enclave)
            if slot is None:
                slot = self._slots[enclave] = Slot(program)
                threading.Thread(target=self._launch, args=(enclave, slot, runtime), daemon=True).start()
        if slot.ending or not slot.started.wait(patience):
            slot.awaited = True
            if slot.ending or not slot.started.is_set():
                return False
        if slot.error is not None:
            self._forget(enclave, slot)
            raise slot.error
        return True

    def _launch(self, enclave: str, slot: Slot, runtime: str) -> None:
        try:
            platform = self._platform if runtime in DEVELOPMENT_RUNTIMES else None
            slot.process = EnclaveProcess.start(slot.program, runtime, self._folder / enclave, platform)
            logger.info("enclave %s is up", enclave)
        except Exception as error:
            slot.error = error
        finally:
            slot.started.set()
            if slot.awaited:
                self._tell(enclave)

    def call(self, call: EnclaveCall, patience: float | None) -> msgspec.Raw:
        """Deliver the inputs, carry out the operation, put the outputs into the blob store. `patience` in
        seconds; None waits for as long as the work takes.

        Raises: `supervisor.no_enclave`, `blob.unknown`, `supervisor.output_missing`, `blob.storage_full`,
        `model.*`, the host's `program.*` codes, and what the program itself raises.
        """
        with logs.telling(**call.about), logs.telling(run=call.run), spans.during(f"enclave {call.op}"):
            return self._call(call, patience)

    def _call(self, call: EnclaveCall, patience: float | None) -> msgspec.Raw:
        slot, process = self._living(call.enclave)
        name = (call.run, call.key) if call.run and call.key else None
        result = slot.stranded.get(name) if name else None
        if result is None:
            result = self._carried_out(call, process, patience)
        if name is None:
            self._store(process, result, call.outputs)
            self._discard(process, result, call.outputs)
            return result
        # An enclave closes a round once. Where the store is away or full, asking again under the same key
        # finds the result here, and stores its files.
        slot.stranded[name] = result
        try:
            self._store(process, result, call.outputs)
        except Refusal as refusal:
            if refusal.code not in ("blob.storage_away", "blob.storage_full"):
                del slot.stranded[name]
            raise
        return result

    def let_go(self, call: EnclaveCall) -> None:
        """The answer to this call, which has a run and a key, is kept: what was held for it goes."""
        with self._lock:
            slot = self._slots.get(call.enclave)
        if slot is None or slot.process is None:
            return
        result = slot.stranded.pop((call.run or "", call.key or ""), None)
        if result is not None:
            self._discard(slot.process, result, call.outputs)

    def _carried_out(self, call: EnclaveCall, process: EnclaveProcess, patience: float | None) -> msgspec.Raw:
        began = time.monotonic()
        if call.model is not None:
            provide(call.model, process.mailbox.folder)
        self._deliver(process, call.inputs)
        try:
            return process.exchange(call.op, call.args, None, patience)
        finally:
            for sha256 in call.inputs:
                process.mailbox.discard(sha256)
            logger.info("%s in enclave %s: %.2f s", call.op, call.enclave, time.monotonic() - began)

    def stop(self, enclave: str) -> None:
        """End an enclave: its keys are gone. Nothing happens where there is none."""
        with self._lock:
            slot = self._slots.get(enclave)
            if slot is None or slot.ending:
                return
            slot.ending = True
        try:
            slot.started.wait()
            if slot.process is not None:
                slot.process.stop()
            shutil.rmtree(self._folder / enclave, ignore_errors=True)
        finally:
            self._forget(enclave, slot)
        logger.info("enclave %s was stopped", enclave)

    def _forget(self, enclave: str, slot: Slot) -> None:
        """Free its name, unless that is another's already."""
        with self._lock:
            if self._slots.get(enclave) is slot:
                del self._slots[enclave]

    def stop_all(self) -> None:
        """End every enclave, at once."""
        with self._lock:
            slots, self._slots = self._slots, {}
        for slot in slots.values():
            if slot.process is not None:
                slot.process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def listing(self) -> Listing:
        """Every enclave that was started and not stopped."""
        with self._lock:
            slots = dict(self._slots)
        return Listing(tuple(_seen(name, slot) for name, slot in slots.items()))

    def room(self) -> Room:
        """What new enclaves find here."""
        listed = self.listing().enclaves
        held = {each.enclave: each.memory for each in listed if each.alive or not each.pid}
        return Room(_free_memory(), tuple(self._runtimes), self.draining, held)

    def _living(self, enclave: str) -> tuple[Slot, EnclaveProcess]:
        with self._lock:
            slot = self._slots.get(enclave)
        if slot is None or slot.process is None or slot.ending:
            raise Refusal("supervisor.no_enclave")
        return slot, slot.process

    @staticmethod
    def _deliver(process: EnclaveProcess, inputs: tuple[str, ...]) -> None:
        for sha256 in inputs:
            try:
                put_in(process.mailbox, sha256)
            except FileNotFoundError as error:
                raise Refusal("blob.unknown") from error

    @staticmethod
    def _store(process: EnclaveProcess, result: msgspec.Raw, outputs: tuple[str, ...]) -> None:
        for file in _files(result, outputs):
            blobs.store(process.mailbox.collect(file.sha256), file.sha256)

    @staticmethod
    def _discard(process: EnclaveProcess, result: msgspec.Raw, outputs: tuple[str, ...]) -> None:
        for file in _files(result, outputs):
            process.mailbox.discard(file.sha256)


def _files(result: msgspec.Raw, outputs: tuple[str, ...]) -> list[FileRef]:
    """An output of null was not made (the closing evaluation has no next parameters)."""
    if not outputs:
        return []
    try:
        fields = msgspec.json.decode(result, type=dict[str, msgspec.Raw])
        named = [msgspec.json.decode(fields[name], type=FileRef | None) for name in outputs]
    except (msgspec.DecodeError, KeyError) as error:
        raise Refusal("supervisor.output_missing") from error
    return [file for file in named if file is not None]


def _free_memory() -> int:
    """What the operating system would give without taking it from somebody, in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _seen(name: str, slot: Slot) -> RunningEnclave:
    """Memory as the operating system counts it: on SGX what is in the enclave's pages is its loader's."""
    pid = slot.process.pid if slot.process else None
    found = {"memory": 0, "peak": 0}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            figure, _, value = line.partition(":")
            if figure in ("VmRSS", "VmHWM"):
                found["memory" if figure == "VmRSS" else "peak"] = int(value.split()[0]) * 1024
    return RunningEnclave(name, slot.program, slot.alive, pid, **found)


def put_in(mailbox: HostMailbox, sha256: str) -> None:
    """Put a blob into the mailbox under a second name: no byte of it is written or hashed for that, as the
    upload was and the enclave hashes what it reads. On another file system than the blobs it is a copy, and
    so it is out of a bucket. Raises FileNotFoundError for a blob that is not there."""
    target = mailbox.folder / "in" / sha256
    target.unlink(missing_ok=True)
    if away := blobs.bucket():
        with blobs.refusing_when_full():
            away.bring(sha256, target)
        return
    path = blobs.path_of(sha256)
    try:
        target.hardlink_to(path)
    except FileNotFoundError:
        raise
    except OSError:
        with blobs.refusing_when_full():
            mailbox.deliver(path, sha256)


def provide(model: Model, folder: Path) -> None:
    """Put the files of a base model into `folder/model`, by hard link where that can be. The enclave checks
    each against the manifest.

    Raises: `model.not_found`, `model.unsafe_name` or `model.file_missing`.
    """
    source, target = resolve(model.source), folder / "model"
    target.mkdir(mode=0o700, exist_ok=True)
    for name in model.files:
        if Path(name).name != name:
            raise Refusal("model.unsafe_name")
        place = target / name
        place.unlink(missing_ok=True)
        try:
            place.hardlink_to((source / name).resolve())
        except FileNotFoundError as error:
            raise Refusal("model.file_missing", file=name) from error
        except OSError:  # another file system
            with blobs.refusing_when_full():
                shutil.copyfile(source / name, place)
