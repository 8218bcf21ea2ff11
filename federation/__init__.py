"""The control plane: a Django project that knows no tensor."""

from federation.celery import app as celery_app

__all__ = ["celery_app"]
