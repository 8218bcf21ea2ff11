"""What pages ask about sites."""

from __future__ import annotations

import re
from datetime import timedelta

from django.utils import timezone

from federation.sites.models import AgentInstance, Site, SiteEvent

WARNED_FOR = timedelta(days=7)


def instance_of(site: Site) -> AgentInstance | None:
    """Where the site's agent runs; None before it was heard of."""
    return getattr(site, "instance", None)


def has_second_machine(instance: AgentInstance | None) -> bool:
    """Was another machine with the site's key refused in the last week?"""
    if instance is None or instance.other_at is None:
        return False
    return timezone.now() - instance.other_at < WARNED_FOR


def timeline(site: Site) -> list[SiteEvent]:
    """Every applied transition of the site, oldest first."""
    return list(site.events.all())


def has_open_command(site: Site) -> bool:
    """Is an enrolment command out that still works?"""
    return site.enrolment_tokens.filter(used_at=None, expires__gt=timezone.now()).exists()


_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def memory_of(site: Site) -> int | None:
    """Bytes of memory of the agent's machine, as its connection check says; None where it does not."""
    for check in site.checks:
        found = re.match(r"([0-9.]+) ([KMGT]iB)", str(check.get("found", "")))
        if check.get("name") == "memory" and found:
            return round(float(found[1]) * _UNITS[found[2]])
    return None
