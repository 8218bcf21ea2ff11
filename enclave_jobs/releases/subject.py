"""The release as something that lead and hospitals speak about (federation/threads)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from enclave_jobs.releases.models import Release, ReleaseSignature, ReleaseState
from federation.sites.models import Site
from federation.studies.models import Study
from federation.threads.models import About


class ReleaseSubject:
    about = About.RELEASE.value

    def asked(self, study: Study) -> str | None:
        run = study.runs.first()
        return run.pk if run is not None and Release.objects.filter(run=run).exists() else None

    def waits_for(self, study: Study, site: Site) -> bool:
        release = Release.objects.filter(run=study.runs.first(), state=ReleaseState.WAITING).first()
        return release is not None and not release.signatures.filter(site=site).exists()

    def signed(self, study: Study) -> Iterable[tuple[str, datetime]]:
        return ReleaseSignature.objects.filter(release__run__study=study).values_list("site_id", "at")
