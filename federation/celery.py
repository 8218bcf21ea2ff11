"""The Celery application. Messages carry ids; the database is the truth (docs/decisions/0001)."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "federation.settings")

app = Celery("fedslice")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["enclave_jobs"])
