"""Template tags: moments, sizes, scores, states and refusals, the same way on every page."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from error_catalogue import explain
from error_catalogue.check_texts import readable
from federation.sites.models import Site
from federation.studies.models import Approval
from frontend.comparison import title_of
from manifest_summary.formatting import word
from translations.numbers import number

register = template.Library()

TONES = {
    "good": {"active", "ready", "finished", "published", "accepted", "signed", "pass", "approved", "holds",
        "serving", "released", "verified", "done"},
    "busy": {
        "enrolled", "releasing", "running", "starting", "joining", "finishing", "open", "collecting",
        "countersigning", "aggregating", "leased", "working", "submitted",
    },
    "warn": {
        "warn", "invited", "approving", "paused", "offered", "dropped", "suspended", "waiting", "soon",
        "incomplete",
    },
    "bad": {"revoked", "failed", "cancelled", "refused", "fail", "rejected", "ended"},
}  # fmt: skip


register.filter("word", word)
register.filter("readable", readable)


@register.filter
def setting(name: str) -> str:
    """A setting's name in a manifest or a CSV -> its name for people."""
    return title_of(name)


@register.filter
def strangers(approval: Approval, approvals: Iterable[Approval]) -> str:
    """The members whose keys this hospital has not compared, by name."""
    known = {*approval.confirmed, approval.site_id}
    return ", ".join(str(other.site) for other in approvals if other.site_id not in known)


@register.filter
def tone(state: str) -> str:
    """The badge's colour for a state of anything: good, busy, warn, bad, or none."""
    return next((name for name, states in TONES.items() if state in states), "")


@register.simple_tag
def explained(code: str, facts: dict[str, Any] | None = None) -> str:
    """What a code of the catalogue says, in one sentence."""
    return explain(code, facts or {}).message


@register.simple_tag
def badge(thing: Any) -> SafeString:
    """The state of a model instance that has `state` with choices."""
    return format_html('<span class="badge {}">{}</span>', tone(thing.state), thing.get_state_display())


COLOURS = 8


@register.simple_tag
def hospital(site: Site) -> SafeString:
    """A hospital's name with its colour, the same on every page; beyond eight the mark is round."""
    shape = ("", " round")[site.colour // COLOURS % 2]
    mark = format_html('<span class="swatch h{}{}" aria-hidden="true"></span>', site.colour % COLOURS, shape)
    return format_html('<span class="hospital">{}{}</span>', mark, site)


@register.inclusion_tag("frontend/parts/save.html")
def save(table: str, file: str) -> dict[str, str]:
    """A button that saves the table with this id as it stands on the page, as CSV."""
    return {"table": table, "file": file}


@register.simple_tag
def when(moment: datetime | None, style: str = "full") -> SafeString | str:
    """A moment: UTC in the source, shown in the reader's zone by fedslice.js, UTC on hover. `style` is full,
    clock or date."""
    if moment is None:
        return _("never")
    moment = moment.astimezone(UTC)
    text = moment.strftime({"clock": "%H:%M:%S", "date": "%Y-%m-%d"}.get(style, "%Y-%m-%d %H:%M:%S UTC"))
    return format_html('<time datetime="{}" data-style="{}">{}</time>', moment.isoformat(), style, text)


@register.filter
def since(moment: datetime | None) -> str:
    """How long ago, in the largest unit that says enough."""
    if moment is None:
        return _("never")
    return _span(max(0, int((datetime.now(UTC) - moment).total_seconds())))


def _span(seconds: int) -> str:
    if seconds < 90:
        return _("%(n)d s") % {"n": seconds}
    if seconds < 90 * 60:
        return _("%(n)d min") % {"n": seconds // 60}
    if seconds < 36 * 3600:
        return _("%(n)d h") % {"n": seconds // 3600}
    return _("%(n)d days") % {"n": seconds // 86400}


@register.filter
def size(count: int | None) -> str:
    """Bytes in units of 1024."""
    if count is None:
        return "–"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return number(f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}")
        value /= 1024
    return number(f"{value:.1f} TiB")


@register.filter
def seconds(value: float | None) -> str:
    """A duration that was measured: `0.42 s`, `12.3 s`, `3 min 20 s`."""
    if value is None:
        return "–"
    if value < 60:
        return number(f"{value:.2f} s" if value < 10 else f"{value:.1f} s")
    return f"{value // 60:.0f} min {value % 60:.0f} s"


@register.filter
def amount(count: int | None) -> str:
    """A number of parameters in thousands or millions, exact below ten thousand."""
    if count is None:
        return "–"
    if count < 10_000:
        return f"{count:,}".replace(",", "\u202f")
    for unit, least in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= least:
            return number(f"{count / least:.3g}\u202f{unit}")
    return str(count)


@register.filter
def weights(count: int) -> int:
    """Bytes of so many float32 weights."""
    return 4 * count


@register.filter
def duration(seconds: float | None) -> str:
    """A length of time in its largest unit."""
    return "–" if seconds is None else _span(int(seconds))


@register.filter
def plain(value: float) -> str:
    """A number for an attribute of SVG, in any locale."""
    return f"{value:.3f}"


@register.filter
def score(value: float | None) -> str:
    """A fraction between 0 and 1 as per cent with one decimal."""
    return "–" if value is None else number(f"{100 * value:.1f} %")


@register.filter
def fraction(value: float) -> str:
    """A fraction that may be tiny, as per cent with two digits that say something."""
    return number(f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %")


@register.filter
def unbroken(text: str) -> str:
    """In running text: a number and its sign stay on one line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


@register.filter
def decimals(value: float | None) -> str:
    return "–" if value is None else number(f"{value:.3f}")


@register.filter
def fingerprint(digest: str) -> str:
    """A SHA-256 in hex, in groups of eight that a person can compare."""
    return " ".join(digest[i : i + 8] for i in range(0, len(digest), 8))


@register.filter
def get(mapping: dict[str, Any], key: str) -> Any:
    return mapping.get(key)


@register.inclusion_tag("frontend/parts/refusal.html")
def refusal(code: str, facts: dict[str, Any] | None = None) -> dict[str, Any]:
    """A code of the catalogue in its words, with what to do next."""
    return {"refusal": explain(code, facts or {})}
