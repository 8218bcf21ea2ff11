"""Entries that were appended before the log had columns for searching get them, from what they say."""

from typing import Any

from django.db import migrations


def fill(apps: Any, schema_editor: Any) -> None:
    from transparency_log.entry import parse_entry
    from federation.attestation.subjects import search_columns, sites_in

    entries = apps.get_model("attestation", "LogEntry")
    mentions = apps.get_model("attestation", "LogMention")
    for row in entries.objects.order_by("index").iterator(chunk_size=500):
        entry = parse_entry(row.data.encode())
        entries.objects.filter(pk=row.pk).update(**search_columns(entry))
        mentions.objects.bulk_create(
            [mentions(entry_id=row.pk, site_id=site) for site in sites_in(entry)], ignore_conflicts=True
        )


class Migration(migrations.Migration):
    dependencies = [("attestation", "0003_search_reviews_collateral"), ("people", "0001_initial")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
