"""Where Django finds the models of the rooms that have no app of their own. Import them from there."""

from enclave_jobs.blobs import models as blobs  # noqa: F401
from enclave_jobs.enclaves import models as enclaves  # noqa: F401
from enclave_jobs.jobs import models as jobs  # noqa: F401
