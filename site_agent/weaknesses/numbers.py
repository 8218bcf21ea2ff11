"""The least that a hospital should ask of a run, whatever it has approved before."""

from __future__ import annotations

from collections.abc import Iterator

from contracts.manifest import Aggregation, Manifest, Publication, PublicFront
from contracts.releases import EXPORT, SEALED, SERVE
from site_agent.weaknesses.kinds import Weakness
from translations.catalogues import words

_ = words("site_agent")

LEAST = 2
"""Sites that a mean is taken over, and that sign a release, at least."""
INSTANCES = Aggregation("fedavg", LEAST, 600).instances
SAMPLE = PublicFront(1).sample
"""What a manifest allows where it says nothing."""


def of_numbers(manifest: Manifest) -> Iterator[Weakness]:
    """A quorum or release by one hospital, many instances, few features computed again, scores of few rows,
    and parameters that leave in clear."""
    if manifest.aggregation.quorum < LEAST:
        yield Weakness(
            "quorum-below-two",
            _("A round needs one hospital only: a mean over one hospital is that hospital's parameters."),
        )
    if manifest.aggregation.instances > INSTANCES:
        yield Weakness(
            "many-instances",
            _(
                "A client slice may begin %(instances)s times: %(value)s are enough for a machine that "
                "fails now and then, and each is another chance to look."
            )
            % {"instances": manifest.aggregation.instances, "value": INSTANCES},
        )
    if manifest.front is not None and manifest.front.sample < SAMPLE:
        yield Weakness(
            "small-sample",
            _(
                "Of each hospital's features only %(sample)s rows of each kind are computed again: so "
                "few find little of what a host exchanges."
            )
            % {"sample": manifest.front.sample},
        )
    if manifest.publication.rows < Publication().rows:
        yield Weakness(
            "small-pool",
            _("Scores of %(rows)s rows together are published: so few tell about single ones.")
            % {"rows": manifest.publication.rows},
        )
    rule = manifest.release.rule
    if rule in (SEALED, EXPORT) and manifest.release.approvals < LEAST:
        yield Weakness("release-by-one", _("One hospital's signature is enough to release the parameters."))
    if rule == SERVE and manifest.split is not None and manifest.release.approvals < LEAST:
        yield Weakness("serving-by-one", _("One hospital's signature is enough to serve the model."))
    if rule == EXPORT:
        yield Weakness(
            "export",
            _(
                "The tuned parameters may leave in clear: the study's lead and the coordinator's "
                "operator can read them, and whoever gets a copy."
            ),
        )
