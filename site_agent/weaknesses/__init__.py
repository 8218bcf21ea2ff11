"""What a person must not overlook: where a manifest trusts more, or asks for less, than a hospital should.

The coordinator writes the manifest, so it says which code may open what is sealed. That is compared here with
what this site knows for itself (what the installed packages measure on development runtimes, what the
project's release key has signed), with the least that a hospital should ask for, and with the manifest that
was approved here before. Each weakness has a name, and is accepted by that name only.
"""

from __future__ import annotations

from contracts.manifest import Manifest
from site_agent.weaknesses.before import since
from site_agent.weaknesses.code import of_reference, of_root, of_status
from site_agent.weaknesses.kinds import Known, Weakness
from site_agent.weaknesses.labels import of_labels
from site_agent.weaknesses.numbers import of_numbers
from site_agent.weaknesses.start import of_start

__all__ = ["Known", "Weakness", "of_labels", "weaknesses"]


def weaknesses(manifest: Manifest, known: Known) -> list[Weakness]:
    """All of them, in a fixed order, each name once."""
    policy = manifest.policy
    found = [
        *of_root(policy, known),
        *(weakness for one in policy.references for weakness in of_reference(one, known)),
        *(weakness for one in policy.references for weakness in of_start(one)),
        *of_status(policy),
        *of_numbers(manifest),
        *since(manifest, known.previous),
    ]
    return list({weakness.name: weakness for weakness in found}.values())
