"""The Django app of the conductor: Celery's queues and clock, and the HTTP status of its refusals."""

from django.apps import AppConfig


class EnclaveJobsConfig(AppConfig):
    name = "enclave_jobs"
    verbose_name = "Enclave jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from enclave_jobs import health, queues, refusals, traces  # noqa: F401  some connect themselves
        from enclave_jobs.releases.subject import ReleaseSubject
        from enclave_jobs.serving.subject import ServingSubject
        from federation.celery import app
        from federation.threads import subjects

        queues.configure(app)
        refusals.register()
        subjects.register(ReleaseSubject())
        subjects.register(ServingSubject())
