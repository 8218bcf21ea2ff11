"""What a study's lead writes beside a run, to find it again: a note and tags. No run goes by them, and they
are no part of its record."""

from __future__ import annotations

import re

from django.db import transaction

from contracts.refusal import Refusal
from enclave_jobs.runs.models import Run, Tag
from federation.audit.services import record
from federation.people.models import User
from federation.people.permissions import require
from federation.plain import line, plain
from federation.studies import permissions

MAX_NOTE, MAX_TAGS, MAX_TAG = 2000, 10, 30


def tags_of(text: str) -> list[str]:
    """Tags as somebody types them, with commas or blanks between them: small letters, each once."""
    typed = (line(part).strip("#").casefold() for part in re.split(r"[\s,;]+", plain(text)))
    return list(dict.fromkeys(tag for tag in typed if tag))


def annotate(by: User, run: Run, note: str, tags: str) -> None:
    """Put this note and these tags in the place of those before. Texts are made plain (`federation.plain`).

    Raises: `auth.forbidden`, `run.note_too_long` or `run.bad_tags`.
    """
    require(permissions.can_edit(by, run.study))
    note, wanted = plain(note), tags_of(tags)
    if len(note) > MAX_NOTE:
        raise Refusal("run.note_too_long", found=len(note), limit=MAX_NOTE)
    longest = max(map(len, wanted), default=0)
    if len(wanted) > MAX_TAGS or longest > MAX_TAG:
        raise Refusal("run.bad_tags", count=len(wanted), most=MAX_TAGS, longest=longest, limit=MAX_TAG)
    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(note=note)
        Tag.objects.filter(run=run).delete()
        Tag.objects.bulk_create(Tag(run=run, name=name) for name in wanted)
        record(by, "run.noted", f"run:{run.pk}", tags=len(wanted), note=len(note))
