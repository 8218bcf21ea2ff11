"""The Django app of the conductor: Celery's queues and clock, and the HTTP status of its refusals."""

from django.apps import AppConfig


class EnclaveJobsConfig(AppConfig):
    name = "enclave_jobs"
    verbose_name = "Enclave jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from enclave_jobs import queues, receivers, refusals  # noqa: F401  receivers connect themselves
        from federation.celery import app

        queues.configure(app)
        refusals.register()
