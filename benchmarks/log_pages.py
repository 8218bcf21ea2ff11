"""How fast the auditor's pages are: `python -m benchmarks.log_pages [--entries 100000]`.

Server time of whole pages (session, permission, query, template), as Django's test client sees it, over a
real log in SQLite: a quarter of its entries are appraisals with their checks. The median of each page is
measured at the newest entries and deep in the log.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

GOAL_MS = 100.0
ASKED = 30
SITES, STUDIES = 40, 12
START = 1_700_000_000
EVERY = 300  # seconds between entries
RARE = 977  # one appraisal in so many fails by a code that is otherwise unknown


def set_up(folder: Path) -> None:
    os.environ |= {
        "FEDSLICE_STATE": str(folder),
        "FEDSLICE_LOG_LEVEL": "ERROR",
        "DJANGO_SETTINGS_MODULE": "federation.settings",
    }
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def appraisal_body(random_: random.Random, number: int, site: str) -> dict[str, Any]:
    """As large as a real one: every check with the values that it compared."""
    from attestation.checks import CHECKS

    refused = number % 20 == 0
    code = "attest.revoked" if number % RARE == 0 else "attest.measurement" if refused else None
    checks = [
        {"name": name, "outcome": "pass", "expected": "x" * 70, "found": "y" * 90, "code": None}
        for name, _ in CHECKS
    ]
    return {
        "subject": site,
        "claims": {"program": "client_slice", "hpke_key": random_.randbytes(1216).hex()},
        "appraisal": {
            "verdict": "refused" if code else "accepted", "code": code, "checks": checks,
            "measurement": random_.randbytes(32).hex(),
        },
    }  # fmt: skip


def fill(entries: int) -> None:
    """Entries, tree and search columns, as `log.append` writes them."""
    from django.db import transaction

    from contracts.log import growth, merkle
    from federation.attestation.models import LogEntry, LogHead, LogMention, LogNode
    from federation.people.models import Role, User
    from federation.sites.models import Site
    from federation.studies.models import Study
    from transparency_log.entry import LeafEntry, encode_entry

    random_ = random.Random(1)
    lead = User.objects.create_user("lena@university.example", role=Role.LEAD)
    User.objects.create_user("audrey@authority.example", role=Role.AUDITOR)
    sites = [Site.objects.create(id=f"{n:012x}", name=f"Hospital {n}") for n in range(SITES)]
    studies = [Study.objects.create(name=f"Study {n}", lead=lead) for n in range(STUDIES)]
    kinds = ("appraisal", "key-release", "roster", "receipt")
    store, size = growth.MemoryStore(), 0
    for first in range(0, entries, 5000):
        rows, mentions = [], []
        for number in range(first, min(first + 5000, entries)):
            kind, at = kinds[number % 4], START + number * EVERY
            site, study = random_.choice(sites), random_.choice(studies)
            body: dict[str, Any] = {"site": site.pk, "study": study.pk, "number": number}
            if kind == "appraisal":
                body = appraisal_body(random_, number // 4, site.pk)
            data = encode_entry(LeafEntry(1, kind, at, body))
            leaf = merkle.leaf_hash(data)
            size = growth.append(store, size, leaf)
            judged = body.get("appraisal", {})
            rows.append(
                LogEntry(
                    index=number, kind=kind, at=datetime.fromtimestamp(at, UTC), data=data.decode(),
                    leaf_hash=leaf.hex(), study=study,
                    program="client_slice" if kind == "appraisal" else "aggregator",
                    verdict=judged.get("verdict", ""), code=judged.get("code") or "",
                )
            )  # fmt: skip
            named = random_.sample(sites, 5) if kind in ("roster", "receipt") else [site]
            mentions += [LogMention(entry_id=number, site=one) for one in named]
        with transaction.atomic():
            LogEntry.objects.bulk_create(rows)
            LogMention.objects.bulk_create(mentions)
    LogHead.objects.create(pk=1, size=size)
    nodes = []
    level = 1
    while size >> level:
        nodes += [
            LogNode(level=level, index=n, hash=store.get_hash(level, n).hex()) for n in range(size >> level)
        ]
        level += 1
    LogNode.objects.bulk_create(nodes, batch_size=5000)


def pages(entries: int) -> dict[str, str]:
    """Name of the figure → address. Every filter of the page, alone and together, at its worst place."""
    deep = entries // 50
    old = datetime.fromtimestamp(START + deep * EVERY, UTC).strftime("%Y-%m-%d")
    site = f"{7:012x}"
    from federation.studies.models import Study

    study = Study.objects.order_by("pk").values_list("pk", flat=True)[0]
    return {
        "newest page": "/log",
        "page deep in the log": f"/log?before={deep}",
        "by hospital": f"/log?site={site}",
        "by hospital, deep": f"/log?site={site}&before={deep}",
        "by hospital and verdict": f"/log?site={site}&verdict=refused",
        "by hospital, rare code": f"/log?site={site}&code=attest.revoked",
        "by study": f"/log?study={study}",
        "by study and kind": f"/log?study={study}&kind=receipt",
        "by program": "/log?program=client_slice",
        "by verdict": "/log?verdict=refused",
        "by rare code": "/log?code=attest.revoked",
        "by code that never came": "/log?code=attest.debug",
        "by kind, deep": f"/log?kind=roster&before={deep}",
        "by an old day": f"/log?until={old}",
        "by an old day and hospital": f"/log?since={old}&until={old}&site={site}",
        "all filters": f"/log?site={site}&study={study}&kind=appraisal&program=client_slice"
        f"&verdict=refused&code=attest.measurement&since=2023-01-01&until={old}",
        "an entry with its proof": f"/log/{deep // 4 * 4}",
    }


def measure(entries: int) -> list[dict[str, Any]]:
    from django.test import Client

    from federation.people.models import User

    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(User.objects.get(email="audrey@authority.example"))
    figures = []
    for name, address in pages(entries).items():
        client.get(address)
        times = []
        for _ in range(ASKED):
            started = time.perf_counter()
            answer = client.get(address)
            times.append(1000 * (time.perf_counter() - started))
            if answer.status_code != 200:
                raise RuntimeError(f"{address} answered {answer.status_code}")
        figures.append(
            {
                "figure": f"log page, {name}", "value": round(statistics.median(times), 1), "unit": "ms",
                "goal": GOAL_MS, "better": "lower",
                "config": {"entries": entries, "slowest": round(max(times), 1), "asked": ASKED},
            }
        )  # fmt: skip
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    entries = parser.parse_args().entries
    with tempfile.TemporaryDirectory() as folder:
        set_up(Path(folder))
        fill(entries)
        figures = measure(entries)
    for figure in figures:
        print(json.dumps(figure))
    print(f"\n{'page':<45}{'median ms':>10}{'slowest':>10}")
    for figure in figures:
        print(f"{figure['figure']:<45}{figure['value']:>10}{figure['config']['slowest']:>10}")


if __name__ == "__main__":
    main()
