"""A ledger that was lost or damaged, counted again from what was approved: never less than it was.

The approved manifests carry this site's own signature. Which rows continue which is lost with the ledger, so
everything becomes one lineage, and no budget is kept; of which
results of a sweep were let out is lost too, so no further ones are.
"""

from __future__ import annotations

import secrets
import time

from site_agent.approvals import approved_copy, approved_hashes, approved_manifest
from site_agent.datasets.catalogue import Catalogue
from site_agent.files import write_private
from site_agent.ledger.accounting import used_by
from site_agent.ledger.book import FILE, Book, DatasetRecord, sealed
from site_agent.ledger.lineage import KEPT, hashes_of, tags_of
from site_agent.state import State


def rebuild(state: State) -> Book:
    """Write it again; what was there is kept beside it, as `ledger.json.before-UNIXTIME`.

    Raises: `agent.state_damaged` for an approval that is not what was signed.
    """
    catalogue, key, lineage, now = Catalogue(state), state.dataset_key, secrets.token_hex(8), int(time.time())
    book = Book()
    there = {dataset.digest: dataset for dataset in catalogue.all()}
    for digest, dataset in there.items():
        sketch = b"".join(sorted(hashes_of(catalogue.path(dataset), key))[:KEPT])
        tags = tags_of(dataset.name, (), key)
        book.rows.append(DatasetRecord(digest, lineage, dataset.name, tags, sketch, now))
    for fingerprint in approved_hashes(state):
        manifest = approved_manifest(state, fingerprint)
        own = manifest.site(state.config.site).dataset
        if own.digest not in {rows.digest for rows in book.rows}:
            book.rows.append(DatasetRecord(own.digest, lineage, f"removed dataset {own.id}", (), b"", now))
        found = there.get(own.digest)
        # Of rows that are gone the worst is taken: each step sees all of them.
        rows = manifest.training.batch_size if found is None else catalogue.training_rows(found)
        book.used.append(used_by(manifest, state.config.site, rows))
        if (place := approved_copy(state, fingerprint).sweep) is not None:
            book.released[place.signed.root] = ["?"] * place.signed.releases
    path = state.folder / FILE
    if path.exists():
        write_private(path.with_name(f"{FILE}.before-{now}"), path.read_bytes())
    write_private(path, sealed(state, book))
    return book
