"""The jobs' part of the agents' API."""

from django.urls import path

from enclave_jobs import api_blobs, api_jobs, api_parts, api_receipts, api_runs, api_serving
from enclave_jobs.releases import api as releases

urlpatterns = [
    path(api_jobs.LEASE_PATH, api_jobs.Leases.as_view(), name="agent-lease"),
    path("jobs/<str:job>/progress", api_jobs.JobProgress.as_view(), name="agent-job-progress"),
    path("jobs/<str:job>/result", api_jobs.JobResult.as_view(), name="agent-job-result"),
    path("jobs/<str:job>/failure", api_jobs.JobFailure.as_view(), name="agent-job-failure"),
    path("runs/<str:run>/manifest", api_runs.RunManifest.as_view(), name="agent-run-manifest"),
    path("runs/<str:run>/receipts", api_receipts.Receipts.as_view(), name="agent-receipts"),
    path("runs/<str:run>/signers/<str:key>", api_receipts.Signer.as_view(), name="agent-signer"),
    path(
        "runs/<str:run>/aggregator/evidence",
        api_runs.AggregatorEvidence.as_view(),
        name="agent-aggregator-evidence",
    ),
    path(
        "runs/<str:run>/aggregator/challenge",
        api_runs.AggregatorChallenge.as_view(),
        name="agent-aggregator-challenge",
    ),
    path(
        "runs/<str:run>/aggregator/admit", api_runs.AggregatorAdmit.as_view(), name="agent-aggregator-admit"
    ),
    path("releases", releases.Releases.as_view(), name="agent-releases"),
    path("serving", api_serving.Served.as_view(), name="agent-serving"),
    path(
        "runs/<str:run>/serving/evidence",
        api_serving.ServingEvidence.as_view(),
        name="agent-serving-evidence",
    ),
    path("runs/<str:run>/serving/open", api_serving.ServingOpen.as_view(), name="agent-serving-open"),
    path("runs/<str:run>/serving/step", api_serving.ServingStep.as_view(), name="agent-serving-step"),
    path("runs/<str:run>/serving/close", api_serving.ServingClose.as_view(), name="agent-serving-close"),
    path("blobs", api_blobs.Uploads.as_view(), name="agent-blobs"),
    path("blobs/uploads/<str:upload>", api_blobs.UploadFrames.as_view(), name="agent-blob-upload"),
    path("blobs/uploads/<str:upload>/parts", api_parts.UploadPart.as_view(), name="agent-blob-part"),
    path("blobs/uploads/<str:upload>/whole", api_parts.UploadWhole.as_view(), name="agent-blob-whole"),
    path("blobs/<str:sha256>/url", api_parts.DownloadAddress.as_view(), name="agent-blob-address"),
    path("blobs/<str:sha256>", api_blobs.Download.as_view(), name="agent-blob"),
]
