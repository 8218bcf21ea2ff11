"""Django as a WSGI application. enclave_jobs/asgi.py serves it, with the line on which agents wait; any WSGI
server can, and then agents poll."""

import os
from importlib import import_module

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from transparency_log.messages import warm_up_message_decoders

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "federation.settings")
application = get_wsgi_application()
import_module(settings.ROOT_URLCONF)  # with all views and the types that they read
warm_up_message_decoders()
