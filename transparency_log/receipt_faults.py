"""What a roster or a receipt says against the manifest of its run. Pure: facts in, faults out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from contracts.approvals import Approval
from contracts.counting import counted
from contracts.manifest import Manifest
from contracts.receipts import Receipt
from contracts.roster import Roster
from contracts.round_kind import kind_of
from transparency_log.evidence import server_program

Fault = tuple[str, str]  # code, words


def roster_faults(roster: Roster, manifest: Manifest, approvals: Mapping[str, Approval]) -> list[Fault]:
    """Who is listed, and for which round; how many count by the members' approvals."""
    members = {site.id for site in manifest.sites}
    sites = [item.site for item in roster.inputs]
    found = counted(approvals, sites)
    return _found(
        {
            ("bundle.round_outside", _outside(roster.round, manifest)): roster.round > manifest.last_round,
            ("roster.invalid", "it lists a site that is no member."): not set(sites) <= members,
            ("roster.below_quorum", f"{found} of its sites count, fewer than the quorum."): (
                found < manifest.aggregation.quorum
            ),
        }
    )


def receipt_faults(
    receipt: Receipt, roster: Roster | None, manifest: Manifest, approvals: Mapping[str, Approval]
) -> list[Fault]:
    """1. it is this run's, by this run's program, of a round that the manifest has, not before its time
    2. it has exactly the inputs of its roster
    3. no site has more rows than the manifest says
    4. it was averaged as the manifest says (noise: transparency_log/noise_record.py), and a quorum counts
    5. its pooled scores are of as many sites that count as the manifest asks for, who have let them be pooled
    """
    return [
        *_found(
            {
                ("receipt.chain_broken", "it is of another run."): receipt.run != manifest.run,
                ("bundle.not_attested", f"it is a receipt of a {receipt.program}."): (
                    receipt.program != server_program(manifest)
                ),
                ("bundle.wrong_mark", "its development mark is not the manifest's."): (
                    receipt.development != (manifest.policy.root == "development")
                ),
                ("bundle.round_outside", _outside(receipt.round, manifest)): (
                    receipt.round > manifest.last_round
                ),
                ("bundle.wrong_time", "it is older than the manifest's minimum time."): (
                    receipt.issued < manifest.minimum_time
                ),
                ("receipt.chain_broken", "it does not keep to its roster."): roster is not None
                and not _keeps_to(receipt, roster),
            }
        ),
        *_row_faults(receipt, manifest),
        *_averaging_faults(receipt, manifest, approvals),
        *_scoring_faults(receipt, roster, manifest, approvals),
    ]


def _keeps_to(receipt: Receipt, roster: Roster) -> bool:
    inputs = [(item.site, item.sha256) for item in receipt.inputs]
    return (inputs, receipt.round, receipt.previous) == (
        [(item.site, item.sha256) for item in roster.inputs],
        roster.round,
        roster.previous,
    )


def _row_faults(receipt: Receipt, manifest: Manifest) -> Iterator[Fault]:
    rows = {site.id: site.dataset.rows for site in manifest.sites}
    for item in receipt.inputs:
        if item.site not in rows:
            yield "roster.invalid", f"it counts {item.site[:64]}, which is no member."
        elif item.samples > rows[item.site]:
            yield (
                "bundle.too_many_rows",
                f"{item.site} counts with {item.samples} rows; the manifest has {rows[item.site]}.",
            )


def _averaging_faults(receipt: Receipt, manifest: Manifest, approvals: Mapping[str, Approval]) -> list[Fault]:
    rules, averaging = manifest.aggregation, receipt.averaging
    trains = manifest.method == "method-1" and kind_of(manifest, receipt.round) == "update"
    faults = {
        ("bundle.wrong_averaging", "it does not say how it was averaged."): trains and averaging is None,
    }
    if averaging is not None:
        faults |= {
            ("bundle.wrong_averaging", "it was not averaged as the manifest says."): (
                (averaging.rule, averaging.clip) != (rules.rule, rules.clip)
            ),
            ("roster.below_quorum", f"it averages {averaging.cohort} contributions."): (
                averaging.cohort != len(receipt.inputs)
                or counted(approvals, [item.site for item in receipt.inputs]) < rules.quorum
            ),
        }
    return _found(faults)


def _scoring_faults(
    receipt: Receipt, roster: Roster | None, manifest: Manifest, approvals: Mapping[str, Approval]
) -> Iterator[Fault]:
    if receipt.metrics.get("pooled") or receipt.metrics.get("test"):
        if roster is not None and not roster.pooled:
            yield "bundle.two_pools", "it has pooled scores, which its list of contributors does not allow."
        found = 0 if receipt.scoring is None else counted(approvals, receipt.scoring.sites)
        if found < manifest.publication.sites:
            yield "bundle.scores_of_few", f"its scores are pooled over {found} sites that count."


def _outside(round: int, manifest: Manifest) -> str:
    return f"round {round} is beyond the manifest's last, {manifest.last_round}."


def _found(faults: dict[Fault, bool]) -> list[Fault]:
    return [fault for fault, found in faults.items() if found]
