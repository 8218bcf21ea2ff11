"""A run manifest in words, for the person who approves it: all of it, and nothing that is not in it.

The words are those of the pages (`manifest_summary`); this adds what only this hospital's agent knows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from contracts.entities import labels_of
from contracts.labels import spelled
from contracts.manifest import Manifest
from manifest_summary.facts import Fact, Section
from manifest_summary.short import in_short
from manifest_summary.summary import summary
from site_agent.datasets.catalogue import Dataset
from site_agent.formatting import printable
from site_agent.weaknesses import Known, Weakness
from translations.catalogues import words
from translations.numbers import number

_ = words("site_agent")

_WIDTH = 100
_LIMIT = 4000
"""Characters of one value: no value of a manifest that is made by our own words is longer."""


def describe(manifest: Manifest, dataset: Dataset, site_id: str) -> str:
    """The manifest as text of several paragraphs. Every value in it that a lead wrote is made printable."""
    purpose = manifest.purpose.splitlines() or [_("(none given)")]
    lines = [
        *_plaintext(manifest),
        _('Study "%(study)s", run %(run)s') % {"study": printable(manifest.study), "run": manifest.run},
        _("Purpose"),
        *(f"  {printable(line, _LIMIT)}" for line in purpose),
        "",
        _("This hospital"),
        *_own(manifest, dataset, site_id),
    ]
    rows = (dataset.card.splits.get("train"),)
    for section in (in_short(manifest, site_id, dataset.name), *summary(manifest, rows)):
        lines += ["", *section_lines(section)]
    return "\n".join([*lines, "", _("Fingerprint"), f"  {manifest.hash}"])


def section_lines(section: Section) -> list[str]:
    """Its title and its facts."""
    return [section.title, *(line for fact in section.facts for line in _fact(fact))]


def _own(manifest: Manifest, dataset: Dataset, site_id: str) -> Iterator[str]:
    """What the manifest says of this hospital, as its own agent has checked it."""
    own = manifest.site(site_id)
    name = printable(own.name, 200)
    yield from _fact(
        Fact(
            _("Name"),
            _("%(name)s (%(site_id)s), one of %(sites)s in this run")
            % {"name": name, "site_id": site_id, "sites": len(manifest.sites)},
        )
    )
    rows = _("%(rows)s rows, id %(id)s") % {"rows": number(f"{own.dataset.rows:,}"), "id": own.dataset.id}
    yield from _fact(
        Fact(
            _("Dataset"),
            _('"%(name)s" (%(rows)s); its digest is that of the file here')
            % {"name": dataset.name, "rows": rows},
        )
    )
    labels = dataset.card.labels
    known = labels_of(labels) if manifest.model.task == "token-classification" else labels
    read = [said for said in sorted(manifest.model.spellings) if said in known]
    for said in read:
        label = spelled(manifest.model.spellings[said])
        yield from _fact(Fact(_("Read as one in it"), f"\u201c{spelled(said)}\u201d as \u201c{label}\u201d"))


def _fact(fact: Fact) -> list[str]:
    """`Name: value`, wrapped. A hash is not broken."""
    text = f"{printable(fact.name, 200)}: {printable(fact.value, _LIMIT)}"
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="  ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def describe_code(manifest: Manifest, known: Known, weak: Sequence[Weakness]) -> str:
    """Whose code the manifest trusts, as this site could check it, and what is weak in it."""
    lines = [_("Whose code it is")]
    if known.own:
        lines.append(_("  compared with what the packages installed on this machine measure"))
    if known.statement is not None:
        until = datetime.fromtimestamp(known.statement.expires, UTC)
        lines.append(
            _(
                "  compared with the release statement %(sequence)s, signed by the project's release key "
                "(valid until %(until)s)"
            )
            % {"sequence": known.statement.sequence, "until": f"{until:%Y-%m-%d}"}
        )
    elif known.own:
        lines += [
            _(
                "  No release key was pinned at this site's enrolment (DEVELOPMENT ONLY): what is "
                "installed here"
            ),
            _("  decides alone, and nobody outside vouches for it."),
        ]
    programs = dict.fromkeys(reference.program for reference in manifest.policy.references)
    for program in programs:
        faults = [weakness.name for weakness in weak if weakness.name.endswith(f"-{program}")]
        found = (
            _("see %(names)s") % {"names": ", ".join(faults)} if faults else _("it is the code that is known")
        )
        lines.append(f"  {program:<13}{found}")
    if weak:
        lines += [
            "",
            _("WEAK in this manifest (%(weak)s); each needs a yes of its own") % {"weak": len(weak)},
        ]
        lines += [f"  {weakness.name}\n      {weakness.text}" for weakness in weak]
    return "\n".join(lines)


def _plaintext(manifest: Manifest) -> list[str]:
    if manifest.placement != "plaintext":
        return []
    return [
        _("PLAINTEXT: a baseline in ordinary processes. Nothing protects rows or parameters in it;"),
        _("your dataset is in it because this site has declared it public."),
        "",
    ]
