"""The site's datasets: what was taken in, under which name, with which card, and whether it is published."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from contracts.agents_api.datasets import PUBLISH, WITHDRAW, Card, DatasetBody
from contracts.manifest import DatasetRef
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from site_agent.datasets.card import content_digest, make_card
from site_agent.datasets.intake import Intake, Wishes, take_in
from site_agent.files import write_private
from site_agent.ledger.book import changing, read_book
from site_agent.ledger.lineage import Relative, enter, hashes_of, relatives, tags_of
from site_agent.state import State
from site_agent.transport import Coordinator

MAX_NAME = 100


class Dataset(Struct, frozen=True, forbid_unknown_fields=True):
    """A dataset that lies in the state folder as `file`.

    `id` is the coordinator's, empty while the card is not published. `digest` is its site-keyed HMAC. `added`
    is in Unix seconds.
    """

    name: str
    file: str
    sources: tuple[str, ...]
    digest: str
    card: Card
    added: int
    id: str = ""


class _Split(Struct):
    split: str


def _card(intake: Intake, wishes: Wishes, public: bool) -> Card:
    rows, columns = intake.rows, intake.columns
    assert columns is not None and columns.kind is not None
    return make_card(
        intake.labels,
        intake.splits,
        rows.lengths,
        public,
        kind=columns.kind,
        answers=rows.answers,
        turns=rows.turns,
        languages=wishes.languages,
    )


class Catalogue:
    """The datasets of one state folder. Every change is on the disk before a method returns."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._path = state.datasets / "catalogue.json"

    def all(self) -> list[Dataset]:
        """By name.

        Raises: `agent.state_damaged`.
        """
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Dataset])
        except FileNotFoundError:
            return []
        except msgspec.DecodeError as error:
            raise Refusal("agent.state_damaged", file="datasets/catalogue.json") from error

    def named(self, name: str) -> Dataset:
        """Raises: `dataset.unknown`."""
        for dataset in self.all():
            if dataset.name == name:
                return dataset
        raise Refusal("dataset.unknown", name=name)

    def path(self, dataset: Dataset) -> Path:
        """Where its rows lie."""
        return self._state.datasets / dataset.file

    def add(
        self, files: Sequence[Path], name: str, wishes: Wishes, public: bool = False
    ) -> tuple[Dataset, Intake]:
        """Take files in under `name` and keep them: `draft`, then `keep`."""
        dataset, intake = self.draft(files, name, wishes, public)
        with self.drafted(dataset):
            self.keep(dataset, files)
        return dataset, intake

    def draft(
        self,
        files: Sequence[Path],
        name: str,
        wishes: Wishes,
        public: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[Dataset, Intake]:
        """Read files, declared public or not, to be kept under `name`: nobody knows the dataset before
        `keep`.

        Raises: a `dataset.` code; then nothing has changed.
        """
        if not 0 < len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
            raise Refusal("dataset.bad_name")
        if any(dataset.name == name for dataset in self.all()):
            raise Refusal("dataset.name_taken", name=name)
        target = self._state.datasets / f"{secrets.token_hex(8)}.jsonl"
        try:
            intake = take_in(files, target, wishes, progress)
            dataset = Dataset(
                name=name,
                file=target.name,
                sources=tuple(file.name for file in files),
                digest=content_digest(target, self._state.dataset_key),
                card=_card(intake, wishes, public),
                added=int(time.time()),
            )
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return dataset, intake

    @contextmanager
    def drafted(self, dataset: Dataset) -> Iterator[None]:
        """Deletes the draft's rows if it has not been kept at the end, however that comes."""
        try:
            yield
        finally:
            if all(other.file != dataset.file for other in self.all()):
                self.path(dataset).unlink(missing_ok=True)

    def relatives(self, dataset: Dataset, files: Sequence[Path]) -> list[Relative]:
        """The datasets of before that a draft from these files continues."""
        key = self._state.dataset_key
        hashes, tags = hashes_of(self.path(dataset), key), tags_of(dataset.name, files, key)
        return relatives(read_book(self._state), dataset.digest, hashes, tags)

    def keep(self, dataset: Dataset, files: Sequence[Path] = (), new: str | None = None) -> None:
        """Enter a draft from these files, in the ledger first: as a relative of what it continues, or with
        the reason `new` as a lineage of its own.

        Raises: a `ledger.` code.
        """
        key = self._state.dataset_key
        hashes, tags = hashes_of(self.path(dataset), key), tags_of(dataset.name, files, key)
        with changing(self._state) as book:
            enter(book, dataset.digest, dataset.name, hashes, tags, new)
        self._keep([*self.all(), dataset])

    def training_rows(self, dataset: Dataset) -> int:
        """How many of its rows are trained on; counted in its file, as the card may hide the number."""
        with self.path(dataset).open("rb") as lines:
            return sum(msgspec.json.decode(line, type=_Split).split == "train" for line in lines)

    def publish(self, dataset: Dataset, coordinator: Coordinator) -> Dataset:
        """Send the card (never a row). Publishing again gives the same dataset."""
        body = DatasetBody(dataset.name, dataset.digest, dataset.card)
        published = msgspec.structs.replace(dataset, id=coordinator.ask(PUBLISH, body).id)
        self._keep([published if other.name == dataset.name else other for other in self.all()])
        return published

    def remove(self, dataset: Dataset, coordinator: Coordinator | None) -> None:
        """Withdraw the card, then delete the rows. If the coordinator refuses, nothing has changed here."""
        if dataset.id and coordinator is not None:
            coordinator.post(WITHDRAW, Nothing(), dataset_id=dataset.id)
        self._keep([other for other in self.all() if other.name != dataset.name])
        self.path(dataset).unlink(missing_ok=True)

    def referred(self, ref: DatasetRef) -> Dataset:
        """The dataset that a manifest names, unchanged since it was added.

        Raises: `approval.no_dataset`, `approval.dataset_mismatch`, `approval.not_public`, or
        `dataset.changed` where the file is not what the catalogue says.
        """
        dataset = next((dataset for dataset in self.all() if dataset.id == ref.id), None)
        if dataset is None:
            raise Refusal("approval.no_dataset", dataset=ref.id)
        known = (dataset.digest, dataset.card.rows, dataset.card.kind)
        if known != (ref.digest, ref.rows, ref.kind):
            raise Refusal("approval.dataset_mismatch", dataset=dataset.name)
        if ref.public and not dataset.card.public:
            raise Refusal("approval.not_public", dataset=dataset.name)
        self.verify(dataset)
        return dataset

    def verify(self, dataset: Dataset) -> None:
        """Hash the rows again.

        Raises: `dataset.changed`.
        """
        path = self.path(dataset)
        if not path.is_file() or content_digest(path, self._state.dataset_key) != dataset.digest:
            raise Refusal("dataset.changed", dataset=dataset.name)

    def _keep(self, datasets: list[Dataset]) -> None:
        ordered = sorted(datasets, key=lambda dataset: dataset.name)
        write_private(self._path, msgspec.json.format(msgspec.json.encode(ordered)))
