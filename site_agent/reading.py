"""A run manifest in words, for the person who approves it: all of it, and nothing that is not in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec.structs import asdict, fields

from contracts.manifest import Lora, Manifest, Prefix, Privacy, Training
from contracts.policy import Reference, SgxReference
from privacy_accounting.epsilon import epsilon, planned
from site_agent import methods
from site_agent.datasets.catalogue import Dataset
from site_agent.label_words import labels_in_words
from site_agent.weaknesses import Known, Weakness
from site_agent.words import printable, readable_seconds

RELEASE = {
    "nothing": "nobody; they stay sealed, and no enclave lets them out",
    "serve-only": "nobody; an enclave answers questions with them",
    "sealed-to-sites": "every hospital that signs for it, sealed to a key that is made there",
    "export": "the study's lead, in clear; the coordinator's operator can read them as well",
}


IDENTITY = ("program", "mrenclave", "mrsigner", "product_id", "minimum_svn", "mrtd", "rtmrs")


def describe(manifest: Manifest, dataset: Dataset, site_id: str) -> str:
    """The manifest as text of several paragraphs. Every value in it that a lead wrote is made printable."""
    model, training = manifest.model, manifest.training
    own = manifest.site(site_id)
    lines = [
        *_plaintext(manifest),
        f'Study "{printable(manifest.study)}", run {manifest.run}',
        "Purpose",
        *(f"  {printable(line, 1000)}" for line in manifest.purpose.splitlines() or ["(none given)"]),
        "",
        "What will run",
        f"  base model   {printable(model.source)}, task {model.task}, at most {model.max_tokens} tokens",
        f"  tuned        {_tuned(manifest)}",
        f"  rounds       {training.rounds}, each {training.local_epochs} epochs over your train rows",
        f"  steps        batches of {training.batch_size}, {_learning_rate(training)}, "
        f"{training.precision}, seed {training.seed}",
        f"  method       {methods.of(manifest).in_words(manifest)}; runtime {manifest.runtime}",
        "",
        "On which data",
        f'  your dataset "{dataset.name}" ({own.dataset.rows:,} rows, id {own.dataset.id}); '
        "its digest is that of the file here",
        *labels_in_words(manifest.model, dataset.card.labels),
        "",
        f"With whom ({len(manifest.sites)} sites)",
        *(
            f"  {site.id}  {printable(site.name, 60)}{' (this site)' if site.id == site_id else ''}, "
            f"{site.dataset.rows:,} rows{', approval key for DEVELOPMENT' if site.development_key else ''}"
            for site in manifest.sites
        ),
        "",
        "What leaves the building",
        *_leaving(manifest),
        "",
        "Who may open what is sealed",
        *_policy(manifest),
        "",
        "Rules",
        f"  a round needs {manifest.aggregation.quorum} of {len(manifest.sites)} sites and waits "
        f"{readable_seconds(manifest.aggregation.deadline_seconds)}; sites count by their number of rows"
        f"{_cap(manifest)}",
        f"  a site's client slice may begin {manifest.aggregation.lives} times in the run",
        *_averaging(manifest, dataset),
        f"  in the end the tuned parameters go to: {RELEASE[manifest.release.rule]} "
        f"(rule {manifest.release.rule}; {manifest.release.approvals} sites must sign for it)",
        f"  not before   {datetime.fromtimestamp(manifest.minimum_time, UTC):%Y-%m-%d %H:%M} UTC",
        "",
        "Pinned files of the base model (SHA-256)",
        *(f"  {digest}  {printable(name)}" for name, digest in sorted(model.files.items())),
        "",
        "Fingerprint",
        f"  {manifest.hash}",
    ]
    return "\n".join(lines)


def describe_code(manifest: Manifest, known: Known, weak: Sequence[Weakness]) -> str:
    """Whose code the manifest trusts, as this site could check it, and what is weak in it."""
    lines = ["Whose code it is"]
    if known.own:
        lines.append("  compared with what the packages installed on this machine measure")
    if known.statement is not None:
        until = datetime.fromtimestamp(known.statement.expires, UTC)
        lines.append(
            f"  compared with the release statement {known.statement.sequence}, signed by the project's "
            f"release key (valid until {until:%Y-%m-%d})"
        )
    elif known.own:
        lines += [
            "  No release key was pinned at this site's enrolment (DEVELOPMENT ONLY): what is installed here",
            "  decides alone, and nobody outside vouches for it.",
        ]
    programs = dict.fromkeys(reference.program for reference in manifest.policy.references)
    for program in programs:
        faults = [weakness.name for weakness in weak if weakness.name.endswith(f"-{program}")]
        found = f"see {', '.join(faults)}" if faults else "it is the code that is known"
        lines.append(f"  {program:<13}{found}")
    if weak:
        lines += ["", f"WEAK in this manifest ({len(weak)}); each needs a yes of its own"]
        lines += [f"  {weakness.name}\n      {weakness.text}" for weakness in weak]
    return "\n".join(lines)


def _plaintext(manifest: Manifest) -> list[str]:
    if manifest.placement != "plaintext":
        return []
    return [
        "PLAINTEXT: a baseline in ordinary processes. Nothing protects rows or parameters in it;",
        "your dataset is in it because this site has declared it public.",
        "",
    ]


def _learning_rate(training: Training) -> str:
    told = f"learning rate {training.learning_rate:g}"
    if training.schedule != "constant":
        told += f" falling to 0 ({training.schedule})"
    if training.warmup:
        told += f" after a warm-up over {training.warmup:.0%} of the steps"
    return told


def _leaving(manifest: Manifest) -> list[str]:
    """What crosses the site's border."""
    pool = manifest.publication
    readable = (
        f"number of rows used, sizes and times; rounded scores of at least {pool.sites} sites and "
        f"{pool.rows} rows together, of no single site"
    )
    return methods.of(manifest).leaving(manifest, readable)


def _cap(manifest: Manifest) -> str:
    cap = manifest.aggregation.max_samples
    return "" if cap is None else f", but no site for more than {cap:,}"


def _averaging(manifest: Manifest, dataset: Dataset) -> list[str]:
    rules = manifest.aggregation
    lines = [methods.of(manifest).joining(manifest)]
    if rules.clip is not None:
        lines.append(
            f"  clipping     a site changes the parameters by no more than {rules.clip:g} (L2) in a round"
        )
    if rules.privacy is None:
        lines.append("  noise        none: the parameters may remember single texts, for whoever gets them")
    else:
        lines += _noise(rules.privacy, manifest, dataset)
    return lines


def _noise(privacy: Privacy, manifest: Manifest, dataset: Dataset) -> list[str]:
    """What epsilon means here, and how large it becomes by the last round."""
    training = manifest.training
    if privacy.unit == "site":
        lines = [
            f"  noise        {privacy.noise:g} sensitivities on each mean, drawn in the aggregator's enclave",
            "               hides whether any one site's changes are in it, not single rows of large sites",
        ]
        rows: int | None = 1
    else:
        rows = dataset.card.splits.get("train")
        lines = [
            f"  noise        {privacy.noise:g} sensitivities on each step, in your client slice; "
            f"a row's gradient is clipped to {privacy.gradient_clip:g}",
            "               hides whether any one row was used; a patient with several rows is hidden less",
        ]
    worst = epsilon(planned(privacy, training, rows), privacy.delta) if rows else None
    told = "not known here: your number of train rows is hidden" if worst is None else f"{worst:.3g} at most"
    return [
        *lines,
        f"  epsilon      {told}, at delta {privacy.delta:g}, after {training.rounds} rounds "
        f"(per {privacy.unit})",
        "               whoever sees the parameters can be surer of it by the factor exp(epsilon), no more;",
        "               scores on test rows are not covered",
    ]


def _policy(manifest: Manifest) -> list[str]:
    policy = manifest.policy
    lines = [f"  trust root   {policy.root}, SHA-256 {policy.root_sha256}"]
    if policy.root == "development":
        lines.append(
            "               DEVELOPMENT ONLY: no hardware protects anything; use no real patients' data"
        )
    lines += [f"  program      {_reference(reference)}" for reference in policy.references]
    lines.append(
        f"  TCB          {', '.join(policy.accepted_statuses)}; evaluation {policy.minimum_tcb_evaluation} up"
    )
    if policy.accepted_advisories:
        lines.append(f"  in spite of  {printable(', '.join(policy.accepted_advisories))}")
    shares = None if manifest.split is None else manifest.split.shares
    if shares is not None:
        lines.append(
            f"  the state between rounds lies under a key in shares: the hosts of {shares.threshold} sites "
            "can open it together with the coordinator"
        )
    witnesses = () if manifest.log is None else manifest.log.witnesses
    names = ", ".join(printable(key.partition("+")[0], 100) for key in witnesses)
    lines.append(
        f"  witnesses    {names or 'none: two hospitals that never compare notes can be shown two logs'}"
    )
    return lines


def _reference(reference: Reference) -> str:
    if isinstance(reference, SgxReference):
        measured = (
            f"MRENCLAVE {reference.mrenclave}" if reference.mrenclave else f"MRSIGNER {reference.mrsigner}"
        )
        if reference.product_id is not None:
            measured += f", product {reference.product_id}"
        if reference.minimum_svn is not None:
            measured += f", SVN {reference.minimum_svn} up"
        return f"{reference.program}: {measured}{_started(reference)}"
    registers = " ".join(f"RTMR{index} {value}" for index, value in enumerate(reference.rtmrs))
    return f"{reference.program}: MRTD {reference.mrtd} {registers}{_started(reference)}"


def _started(reference: Reference) -> str:
    """How it may be started, where that is more than the least."""
    named = {name: value for name, value in asdict(reference).items() if name not in IDENTITY}
    least = {field.name: field.default for field in fields(reference)}
    more = [f"{name} {value}" for name, value in named.items() if value != least[name]]
    return f", started with {', '.join(more)}" if more else ""


def _tuned(manifest: Manifest) -> str:
    adapter = manifest.adapter
    if isinstance(adapter, Lora):
        targets = printable(", ".join(adapter.targets))
        return f"LoRA of rank {adapter.rank} (alpha {adapter.alpha}) on {targets}"
    if isinstance(adapter, Prefix):
        return f"a prefix of {adapter.length} positions before each layer (P-Tuning v2)"
    cut = manifest.split.cut if manifest.split else 0
    rows, lora = ", ".join(adapter.rows) or "nothing", ", ".join(adapter.lora) or "nothing"
    return (
        f"SPF after layer {cut}: {adapter.attention:g} % of the attention heads, {adapter.dense:g} % of "
        f"the rows of {rows} ({adapter.select}); LoRA of rank {adapter.rank} (alpha {adapter.alpha}) "
        f"on {lora}"
    )
