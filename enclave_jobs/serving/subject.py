"""Serving as something that lead and hospitals speak about (federation/threads)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from enclave_jobs.serving.models import Service, ServiceState, ServingSignature
from federation.sites.models import Site
from federation.studies.models import Study
from federation.threads.models import About


class ServingSubject:
    about = About.SERVING.value

    def asked(self, study: Study) -> str | None:
        run = study.runs.first()
        on = run is not None and Service.objects.filter(run=run).exclude(state=ServiceState.OFF).exists()
        return run.pk if run is not None and on else None

    def waits_for(self, study: Study, site: Site) -> bool:
        service = Service.objects.filter(run=study.runs.first(), state=ServiceState.WAITING).first()
        return service is not None and not service.signatures.filter(site=site).exists()

    def signed(self, study: Study) -> Iterable[tuple[str, datetime]]:
        return ServingSignature.objects.filter(service__run__study=study).values_list("site_id", "at")
