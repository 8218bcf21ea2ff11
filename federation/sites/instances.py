"""One key is one process: which machine's agent speaks for a site, and how that changes.

1. The first machine that is heard of is the site's.
2. After a restart of that machine, and on a clone of its disk, the place is the same and the boot is another:
   it is let in once the last one was silent for `SILENT`. On one boot a file lock at the hospital keeps two
   apart, so an agent that was killed comes back at once.
3. Any other machine is refused, told which one is the site's, and noted for the site's page.
4. `move` makes another machine the site's, once the last one is silent. From then on that one is refused.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from contracts.refusal import Refusal
from federation.audit.services import record
from federation.sites.authentication import AgentPrincipal
from federation.sites.models import AgentInstance

SILENT = timedelta(seconds=60)
"""An agent sends a heartbeat every 30 s."""
NOTED = timedelta(seconds=5)
"""How exact `heard_at` is: not every request writes."""


def require(agent: AgentPrincipal, address: str) -> None:
    """The site's own machine asks, and is noted to be alive.

    Raises: `instance.alive`, `instance.elsewhere` or `instance.moved`.
    """
    now, here = timezone.now(), agent.instance
    held = agent.read_instance()
    if held is None:
        first = {**here._asdict(), "address": address, "since": now, "heard_at": now}
        held, fresh = AgentInstance.objects.get_or_create(site=agent.site, defaults=first)
        if fresh:
            record(agent, "site.machine", f"site:{agent.site.pk}", machine=here.machine, address=address)
            return
    if held.place != here.place:
        _note_other(agent, held, address, now)
        code = "instance.moved" if here.place == held.former_place else "instance.elsewhere"
        raise Refusal(code, machine=held.machine, since=f"{held.since:%Y-%m-%d %H:%M} UTC")
    row = AgentInstance.objects.filter(pk=held.pk, place=here.place)
    if held.boot == here.boot:
        if held.heard_at is None or held.heard_at < now - NOTED:
            row.filter(boot=here.boot).update(heard_at=now)
        return
    changes = {"boot": here.boot, "machine": here.machine, "address": address, "heard_at": now}
    if not row.filter(Q(heard_at=None) | Q(heard_at__lte=now - SILENT)).update(**changes):
        _note_other(agent, held, address, now)
        raise _alive(held, now)


def leaves(agent: AgentPrincipal) -> None:
    """The agent ends in order: another one need not wait."""
    AgentInstance.objects.filter(site=agent.site, **_same(agent)).update(heard_at=None)


def move(agent: AgentPrincipal, address: str) -> AgentInstance:
    """The machine that asks is the site's from now on; where it is already, nothing changes.

    Raises: `instance.alive` while the other one is.
    """
    now, here = timezone.now(), agent.instance
    with transaction.atomic():
        held = AgentInstance.objects.select_for_update().filter(site=agent.site).first()
        if held is not None and held.place == here.place:
            return held
        if held is not None and held.heard_at is not None and held.heard_at > now - SILENT:
            raise _alive(held, now)
        changes = {**here._asdict(), "address": address, "since": now, "heard_at": now}
        cleared = {"other_place": "", "other_boot": "", "other_machine": "", "other_address": ""}
        moved, _ = AgentInstance.objects.update_or_create(
            site=agent.site,
            defaults=changes
            | cleared
            | {"other_at": None, "other_tries": 0, "former_place": held.place if held else ""},
        )
        record(
            agent, "site.moved", f"site:{agent.site.pk}", machine=here.machine, address=address,
            former_machine=held.machine if held else None, former_address=held.address if held else None,
        )  # fmt: skip
    return moved


def _note_other(agent: AgentPrincipal, held: AgentInstance, address: str, now: datetime) -> None:
    """For the site's page; the audit trail names each machine once, however often it asks."""
    here = agent.instance
    AgentInstance.objects.filter(pk=held.pk).update(
        other_place=here.place, other_boot=here.boot, other_machine=here.machine, other_address=address,
        other_at=now, other_tries=F("other_tries") + 1,
    )  # fmt: skip
    if (held.other_place, held.other_boot) != (here.place, here.boot):
        record(
            agent, "site.second_machine", f"site:{agent.site.pk}", machine=here.machine, address=address,
            held_by=held.machine,
        )  # fmt: skip


def _same(agent: AgentPrincipal) -> dict[str, str]:
    return {"place": agent.instance.place, "boot": agent.instance.boot}


def _alive(held: AgentInstance, now: datetime) -> Refusal:
    silent = int((now - held.heard_at).total_seconds()) if held.heard_at else 0
    return Refusal("instance.alive", machine=held.machine, seconds=silent)
