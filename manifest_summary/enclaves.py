"""Which enclaves are accepted, on whose word, and who watches the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import asdict, fields

from contracts.manifest import Manifest
from contracts.policy import Reference, SgxReference
from manifest_summary.facts import Fact, _
from manifest_summary.formatting import no_patients

_IDENTITY = ("program", "mrenclave", "mrsigner", "product_id", "minimum_svn", "mrtd", "rtmrs")


def enclaves(manifest: Manifest) -> list[Fact]:
    """Runtime, trust root, each accepted measurement, accepted states and floors, log and witnesses."""
    policy = manifest.policy
    root = f"{policy.root}, SHA-256 {policy.root_sha256}"
    facts = [Fact(_("Runtime"), manifest.runtime, is_code=True), Fact(_("Trust root"), root, is_code=True)]
    if policy.root == "development":
        facts.append(Fact(_("What that root is worth"), no_patients()))
    facts += _references(policy.references)
    shares = None if manifest.split is None else manifest.split.shares
    if shares is not None:
        open_it = _("the hosts of %(n)d hospitals can open it together with the coordinator")
        facts.append(
            Fact(_("State between rounds, under a key in shares"), open_it % {"n": shares.threshold})
        )
    return [
        *facts,
        Fact(_("Accepted states of the platform"), ", ".join(policy.accepted_statuses)),
        Fact(_("Accepted advisories"), ", ".join(policy.accepted_advisories) or _("none")),
        Fact(_("Evaluation of the platform, at least"), str(policy.minimum_tcb_evaluation)),
        *_floors(manifest),
        *_log(manifest),
    ]


def _references(references: Iterable[Reference]) -> list[Fact]:
    of_program: Counter[str] = Counter()
    facts = []
    for reference in references:
        of_program[reference.program] += 1
        number = of_program[reference.program]
        name = reference.program if number == 1 else f"{reference.program} ({number})"
        facts.append(Fact(name, identity(reference) + _started(reference), is_code=True))
    return facts


def identity(reference: Reference) -> str:
    """What a reference measures."""
    if not isinstance(reference, SgxReference):
        registers = " ".join(f"RTMR{index} {value}" for index, value in enumerate(reference.rtmrs))
        return f"MRTD {reference.mrtd} {registers}"
    measured = [f"MRENCLAVE {reference.mrenclave}"] if reference.mrenclave else []
    measured += [f"MRSIGNER {reference.mrsigner}"] if reference.mrsigner else []
    measured += [f"product {reference.product_id}"] if reference.product_id is not None else []
    measured += [f"SVN {reference.minimum_svn} up"] if reference.minimum_svn is not None else []
    return ", ".join(measured)


def _started(reference: Reference) -> str:
    """How it may be started, where that is more than the least."""
    named = {name: value for name, value in asdict(reference).items() if name not in _IDENTITY}
    least = {field.name: field.default for field in fields(reference)}
    more = [f"{name} {value}" for name, value in named.items() if value != least[name]]
    return _(", started with %(what)s") % {"what": ", ".join(more)} if more else ""


def _floors(manifest: Manifest) -> list[Fact]:
    kinds = [
        f"{floor.fmspc}/{floor.ca} {' '.join(str(value) for value in list(asdict(floor).values())[2:])}"
        for floor in manifest.policy.floors
    ]
    name = _("Oldest collateral, by kind of platform (evaluations, CRL numbers, times)")
    return [Fact(name, "; ".join(kinds), is_code=True)] if kinds else []


def _log(manifest: Manifest) -> list[Fact]:
    if manifest.log is None:
        return [Fact(_("Transparency log"), _("none"))]
    names = ", ".join(manifest.log.witnesses)
    none = _("none: two hospitals that never compare notes can be shown two logs")
    return [
        Fact(_("Transparency log"), manifest.log.key, is_code=True),
        Fact(_("Witnesses"), names or none, is_code=bool(names)),
    ]
