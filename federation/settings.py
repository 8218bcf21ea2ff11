"""Settings of the coordinator. The defaults serve one machine; a consortium changes only the environment.
docs/operations.md lists each variable ("Settings").
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tempfile
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from translations import catalogues, spoken

BASE_DIR = Path(__file__).resolve().parent.parent
STATE_DIR = Path(os.environ.get("FEDSLICE_STATE", BASE_DIR / "var")).resolve()
STATE_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)


def _secret(name: str) -> str:
    """A secret that is made once and then kept in the state folder, readable by its owner only."""
    path = STATE_DIR / name
    if not path.exists():
        fresh = path.with_name(f"{name}.{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(50))
        try:
            # A hard link is atomic and refuses to replace what another process made first.
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text()


def _socket_dir() -> Path:
    """Where our Unix sockets live: the state folder, or a short private folder of this user where the state
    folder's path is too long for a socket address (108 bytes) or has characters that a URL would change."""
    if len(str(STATE_DIR)) < 80 and re.fullmatch(r"[A-Za-z0-9/._-]+", str(STATE_DIR)):
        return STATE_DIR
    name = hashlib.sha256(str(STATE_DIR).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"fedslice-{os.getuid()}-{name}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o077:
        raise ImproperlyConfigured(f"{path} is not private to this user; remove it and start again")
    return path


def database(url: str | None) -> dict[str, object]:
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": STATE_DIR / "coordinator.sqlite3",
            "OPTIONS": {
                # IMMEDIATE takes the write lock at once: two writers wait instead of failing half-way.
                "transaction_mode": "IMMEDIATE",
                "timeout": 30,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
            },
        }
    parts = urlsplit(url)
    return {
        "ENGINE": "federation.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        # Threads share a pool: one without a connection waits, where PostgreSQL would turn it away ("too
        # many clients"). Connections that the server has closed meanwhile are replaced.
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "pool": {
                "min_size": 1,
                "max_size": int(os.environ.get("FEDSLICE_DATABASE_CONNECTIONS", "8")),
                "timeout": 30,
                "num_workers": 1,
            }
        },
    }


def bucket_storage(address: str | None, region: str) -> dict[str, dict[str, Any]]:
    """Django's settings of an S3 bucket, from https://key:secret@storage.example/bucket; none without."""
    if not address:
        return {}
    from botocore.config import Config  # a second of imports, for who has a bucket

    parts = urlsplit(address)
    bucket = parts.path.strip("/")
    if parts.scheme not in ("http", "https") or not (parts.hostname and parts.username and parts.password):
        raise ImproperlyConfigured("FEDSLICE_STORAGE is https://key:secret@storage.example/bucket")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise ImproperlyConfigured(
            "FEDSLICE_STORAGE names no bucket: https://key:secret@storage.example/bucket"
        )
    options = {
        "access_key": unquote(parts.username),
        "secret_key": unquote(parts.password),
        "bucket_name": bucket,
        "endpoint_url": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        "region_name": region,
        # What we believe of a file is its SHA-256 alone; other checksums not every storage knows.
        "client_config": Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=5,
            read_timeout=60,
            retries={"total_max_attempts": 3, "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    }
    return {"blobs": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}}


def _roles(text: str) -> list[str]:
    roles = [] if text == "none" else text.split(",")
    if unknown := set(roles) - {"operator", "auditor", "lead", "site_admin"}:
        raise ImproperlyConfigured(
            f"FEDSLICE_SECOND_FACTOR: no role is called {', '.join(sorted(unknown)) or 'so'}"
        )
    return roles


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ImproperlyConfigured(f"the package {name} is not installed; run `make setup`")
    return Path(spec.origin).parent


SECRET_KEY = os.environ.get("FEDSLICE_SECRET_KEY") or _secret("secret-key")
DEBUG = False
PUBLIC_URL = os.environ.get("FEDSLICE_URL", "http://127.0.0.1:8000").rstrip("/")
_public = urlsplit(PUBLIC_URL)
HTTPS = _public.scheme == "https"
ALLOWED_HOSTS = [_public.hostname or "127.0.0.1", "127.0.0.1", "localhost"]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
LISTEN = os.environ.get("FEDSLICE_LISTEN") or ("127.0.0.1:8000" if HTTPS else _public.netloc)
PROXIES = [
    ip_network(one) for one in os.environ.get("FEDSLICE_PROXIES", "").replace(" ", "").split(",") if one
]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "django_htmx",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "federation.people",
    "federation.sites",
    "federation.datasets",
    "federation.studies",
    "federation.threads",
    "federation.attestation",
    "federation.audit",
    "federation.notices",
    "enclave_jobs.runs",
    "enclave_jobs.releases",
    "enclave_jobs.serving",
    "enclave_jobs",
    "frontend",
]

MIDDLEWARE = [
    "frontend.request_ids.RequestIds",
    "frontend.proxied.Health",
    "frontend.proxied.ThroughProxy",
    "django.middleware.security.SecurityMiddleware",
    "frontend.static_files.StaticFiles",
    "frontend.middleware.ContentSecurityPolicy",
    "frontend.sessions.NotKept",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "frontend.languages.OfTheBrowser",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "frontend.languages.OfThePerson",
    "django.contrib.messages.middleware.MessageMiddleware",
    "frontend.sessions.SignedInTime",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "frontend.middleware.SecondFactorRequired",
]

ROOT_URLCONF = "federation.urls"
WSGI_APPLICATION = "federation.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "frontend.context.chrome",
            ]
        },
    }
]

DATABASES = {"default": database(os.environ.get("FEDSLICE_DATABASE"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "people.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SECOND_FACTOR_ROLES = _roles(os.environ.get("FEDSLICE_SECOND_FACTOR", "operator,auditor"))
SECOND_FACTOR_KEY = os.environ.get("FEDSLICE_SECOND_FACTOR_KEY") or _secret("second-factor-key")
OTP_TOTP_ISSUER = "FedSlice"
PASSWORD_RESET_TIMEOUT = 3600

LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "sign-in"

# `federation.people.sessions` counts from signing in, and ends idle ones sooner.
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31536000 if HTTPS else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "frontend.sessions.csrf_failure"

LANGUAGE_CODE = "en"
# The languages in which every text is there: what a page says it is in, it is in, all of it.
LANGUAGES = list(spoken.LANGUAGES.items())
LOCALE_PATHS = [catalogues.for_django(STATE_DIR / "locale")]
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True

# What hospitals' agents are installed from, where the operator has put it (`make wheelhouse`).
WHEELHOUSE = os.environ.get("FEDSLICE_WHEELHOUSE") or str(STATE_DIR / "wheelhouse")

STATIC_URL = "static/"
STATIC_ROOT = os.environ.get("FEDSLICE_STATIC")
# Plotly ships its script inside its PyPI package; it is served from our own origin.
STATICFILES_DIRS = [("plotly", _package("plotly") / "package_data")]
# Static files come straight from the packages where none were collected.
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
WHITENOISE_MAX_AGE = 3600

REDIS_SOCKET = _socket_dir() / "redis.sock"
REDIS_URL = os.environ.get("FEDSLICE_REDIS") or f"redis+socket://{REDIS_SOCKET}"
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
# A worker takes a message when a process of it is free: one that is killed holds none that it has not begun.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# What a worker prints is no log: without a mail server it prints mails, whose links no log keeps.
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # A message of a killed worker comes back after this time: longer than the longest task (a base model is
    # given half an hour), which else were begun twice. The sweep (beat) finds stuck work in seconds.
    "visibility_timeout": 3600,
    # Two priorities (enclave_jobs/queues.py); within one, queues are served in turn.
    "priority_steps": [0, 6],
}
CELERY_BEAT_SCHEDULE_FILENAME = str(STATE_DIR / "celerybeat-schedule")
CELERY_TIMEZONE = "UTC"

BLOB_DIR = Path(os.environ.get("FEDSLICE_BLOBS", STATE_DIR / "blobs"))
# Sealed files in a bucket in place of that folder, where hospitals reach it (enclave_jobs/blobs/bucket.py).
STORAGE_REGION = os.environ.get("FEDSLICE_STORAGE_REGION", "us-east-1")
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    **bucket_storage(os.environ.get("FEDSLICE_STORAGE"), STORAGE_REGION),
}
STORAGE_FOR_SITES = os.environ.get("FEDSLICE_STORAGE_FOR_SITES", "").rstrip("/")
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024

DEVELOPMENT_ROOT_DIR = STATE_DIR / "development-root"
DEVELOPMENT_TEE = os.environ.get("FEDSLICE_DEVELOPMENT_TEE", "sgx")
if DEVELOPMENT_TEE not in ("sgx", "tdx"):
    raise ImproperlyConfigured("FEDSLICE_DEVELOPMENT_TEE is sgx or tdx")
SUPERVISOR_ADDRESS = os.environ.get("FEDSLICE_SUPERVISOR")
# A pool for all runs: each goes to the one with the most free memory (enclave_jobs/supervisor/pool.py).
SUPERVISORS = [one for one in os.environ.get("FEDSLICE_SUPERVISORS", "").replace(" ", "").split(",") if one]
if wrong := [
    one for one in SUPERVISORS if not re.fullmatch(r"[^:\s]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", one)
]:
    raise ImproperlyConfigured(f"FEDSLICE_SUPERVISORS: {wrong[0]} is no host:port")
SUPERVISOR_TLS = os.environ.get("FEDSLICE_SUPERVISOR_TLS")
SUPERVISOR_ADDRESS_FILE = STATE_DIR / "supervisor.json"
SUPERVISOR_TOKEN = os.environ.get("FEDSLICE_SUPERVISOR_TOKEN") or _secret("supervisor-token")
TRACES = os.environ.get("FEDSLICE_TRACES", "")
if TRACES and (urlsplit(TRACES).scheme not in ("http", "https") or not urlsplit(TRACES).hostname):
    raise ImproperlyConfigured("FEDSLICE_TRACES is no http:// or https:// address of a collector")
METRICS_TOKEN = os.environ.get("FEDSLICE_METRICS_TOKEN") or _secret("metrics-token")
# Keys (C2SP vkeys) of the log's witnesses: new manifests name them, and sites go by what they have cosigned.
LOG_WITNESSES = os.environ.get("FEDSLICE_LOG_WITNESSES", "").split()
ENCLAVE_RUNTIMES = os.environ.get("FEDSLICE_RUNTIMES", "development").split(",")
if unknown := sorted({*ENCLAVE_RUNTIMES}.difference(("development", "direct", "sgx", "tdx"))):
    raise ImproperlyConfigured(f"FEDSLICE_RUNTIMES: no runtime is called {', '.join(unknown)}")
RELEASE_DAYS = int(os.environ.get("FEDSLICE_RELEASE_DAYS", "30"))
SERVING_REQUESTS_A_MINUTE = int(os.environ.get("FEDSLICE_SERVING_RATE", "3000"))
# Where collateral for hardware comes from; there is deliberately no default.
PCCS_URL = os.environ.get("FEDSLICE_PCCS", "")

_mail = urlsplit(os.environ.get("FEDSLICE_MAIL", "console:"))
DEFAULT_FROM_EMAIL = os.environ.get("FEDSLICE_MAIL_FROM", "FedSlice <fedslice@localhost>")
if _mail.scheme == "smtp":
    EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    EMAIL_HOST, EMAIL_PORT = _mail.hostname or "localhost", _mail.port or 587
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = unquote(_mail.username or ""), unquote(_mail.password or "")
    EMAIL_USE_TLS = bool(_mail.username)
else:
    EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["federation.sites.authentication.AgentAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "federation.errors.exception_handler",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "FedSlice agents' API",
    "DESCRIPTION": "What a hospital's site agent speaks with the coordinator, over HTTPS, outward only.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": "federation.logs.PlainLines",
            "fmt": "{asctime} {levelname} {name} {message}{about}",
            "style": "{",
        },
        "json": {"()": "federation.logs.JsonLines"},
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": os.environ.get("FEDSLICE_LOG_FORMAT", "plain"),
        }
    },
    "root": {"handlers": ["stderr"], "level": os.environ.get("FEDSLICE_LOG_LEVEL", "INFO")},
}

MESSAGE_TAGS = {20: "", 25: "good", 30: "warn", 40: "bad"}
