"""The prepared model of a masked run, made here: the hospital takes prepared files from nobody.

`prepared/<key>/<pin>/` in the state folder, for all runs of one base model and task; `pin` is the hash of
what was made, which the manifest has to name. It is made in a child process, because it takes torch, and put
into a run's mailbox as hard links. What no run has asked for in a while is removed, and what a crash has left
unfinished, or a client slice has called damaged, is made again.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from contracts.canonical import digest
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from enclave_host.child_calls import ChildProgress
from enclave_host.preparing import prepare_in_child
from site_agent import AGENT_VERSION
from site_agent.files import private_folder
from site_agent.methods.fronts import Tell, prune

DAMAGED = (
    "masking.weights_changed", "masking.prepared_differs", "masking.bad_prepared",
    "slicing.embedding_changed", "slicing.no_embeddings",
)  # fmt: skip
"""What a client slice says of prepared files that are not what was made here."""
FILES = ("index.json", "inside.bin", "table.bin", "weights.int8")


class PreparedFolder:
    """One base model, as it is prepared for a task."""

    def __init__(self, prepared: Path, manifest: Manifest) -> None:
        model = manifest.model
        self._root, self._manifest = prepared, manifest
        made_of = {"files": model.files, "task": model.task, "agent": AGENT_VERSION}
        self.folder = prepared / digest(made_of)

    def hand_in(self, model: Path, tell: Tell, put: Callable[[Path], None]) -> None:
        """Let `put` have each file of the prepared model; makes them of the base model in `model`, if they
        are not there.

        Raises: `masking.not_prepared` or `masking.other_preparation`, and what preparing raises.
        """
        pinned = self._manifest.masking and self._manifest.masking.prepared
        if not pinned:
            raise Refusal("masking.not_prepared")
        if self._made() is None:
            self.forget()
            self._make(model, tell)
        os.utime(self.folder)  # asked for just now: see `prune`
        made = self._made()
        if made is None or made.name != pinned:
            raise Refusal("masking.other_preparation", made=made.name if made else "", pinned=pinned)
        for name in FILES:
            put(made / name)

    def _made(self) -> Path | None:
        """What was made, whose name is its hash; None where there is nothing whole."""
        found = list(self.folder.iterdir()) if self.folder.is_dir() else []
        whole = len(found) == 1 and all((found[0] / name).is_file() for name in FILES)
        return found[0] if whole else None

    def forget(self) -> None:
        """Remove it: it is made again."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self, model: Path, tell: Tell) -> None:
        def pass_on(progress: ChildProgress) -> None:
            tell("preparing the model", progress.done / max(progress.of, 1))

        private_folder(self._root)
        prune(self._root, self.folder)
        part = private_folder(self._root / f"part-{secrets.token_hex(8)}")
        try:
            spec = self._manifest.model
            pin = prepare_in_child(model, spec.files, spec.task, part / "made", pass_on)
            (part / "made").rename(part / pin)
            part.rename(self.folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
