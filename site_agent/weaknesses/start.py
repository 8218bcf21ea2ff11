"""How its host may start a program: what no measurement covers, and a reference value may leave open."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import fields

from contracts.policy import EVERY_BIT, Reference, SgxReference
from site_agent.weaknesses.kinds import Weakness
from translations.catalogues import words

_ = words("site_agent")

XFEATURES = 0x6_02FF
"""State that wider registers need, and nothing else (x87, SSE, AVX, MPX, AVX-512, PKRU, AMX): which of these
a processor has, a build cannot know. Source: Intel SDM volume 1, table of the XSAVE features."""
CET = 0x1800
"""Shadow stacks, which a trust domain's kernel may use for itself. Source: Intel, "TDX Module ABI
Specification", XFAM."""
KSS = 1 << 7
EXACT = (
    "misc_select", "config_id", "config_svn", "ext_product_id", "family_id",
    "mrconfigid", "mrowner", "mrownerconfig",
)  # fmt: skip
"""What a host could hand to a program that reads it. None of FedSlice's does: the least is zero."""


def of_start(reference: Reference) -> Iterator[Weakness]:
    """Fields in which the reference allows more than FedSlice's programs need."""
    least = {field.name: field.default for field in fields(reference)}
    found = [name for name in EXACT if getattr(reference, name, None) != least.get(name)]
    if isinstance(reference, SgxReference):
        found += _more("flags", reference.flags, reference.flags_mask, int(least["flags"], 16) | KSS)
        found += _more("xfrm", reference.xfrm, reference.xfrm_mask, XFEATURES)
    else:
        attributes = int(least["td_attributes"], 16)
        found += _more("td_attributes", reference.td_attributes, reference.td_attributes_mask, attributes)
        found += _more("xfam", reference.xfam, reference.xfam_mask, XFEATURES | CET)
    if found:
        yield Weakness(
            f"start-{reference.program}",
            _(
                "Its host may start the %(program)s otherwise than FedSlice's programs need (%(names)s): "
                "what a host chooses there, no measurement covers."
            )
            % {"program": reference.program, "names": ", ".join(found)},
        )


def _more(name: str, value: str, mask: str, sound: int) -> list[str]:
    """The name, if a bit outside `sound` may be on."""
    allowed = int(value, 16) | (int(EVERY_BIT, 16) & ~int(mask, 16))
    return [name] if allowed & ~sound else []
