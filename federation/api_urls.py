"""The control plane's part of the agents' API (the jobs' part is enclave_jobs/urls.py)."""

from django.urls import path

from federation.attestation import api as attestation
from federation.datasets import api as datasets
from federation.sites import api as sites
from federation.studies import api as studies
from federation.threads import api as threads

urlpatterns = [
    path("enrol", sites.Enrol.as_view(), name="agent-enrol"),
    path("approval-key", sites.ApprovalKey.as_view(), name="agent-approval-key"),
    path("heartbeat", sites.Heartbeat.as_view(), name="agent-heartbeat"),
    path("machine", sites.Machine.as_view(), name="agent-machine"),
    path("datasets", datasets.Datasets.as_view(), name="agent-datasets"),
    path("datasets/<str:dataset_id>", datasets.DatasetDetail.as_view(), name="agent-dataset"),
    path("approvals", studies.Approvals.as_view(), name="agent-approvals"),
    path("threads", threads.Threads.as_view(), name="agent-threads"),
    path("collateral", attestation.Collateral.as_view(), name="agent-collateral"),
    path("release-statement", attestation.ReleaseStatementView.as_view(), name="agent-release-statement"),
    path("log/checkpoint", attestation.LogCheckpoint.as_view(), name="agent-log-checkpoint"),
    path("log/consistency", attestation.LogConsistency.as_view(), name="agent-log-consistency"),
    path("log/proof", attestation.LogProof.as_view(), name="agent-log-proof"),
    path("log/inclusion", attestation.LogInclusion.as_view(), name="agent-log-inclusion"),
]
