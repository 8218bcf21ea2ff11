"""The jobs' part of the agents' API."""

from django.urls import path

from enclave_jobs.blobs import api as blobs
from enclave_jobs.blobs import api_parts
from enclave_jobs.enclaves import api as enclaves
from enclave_jobs.jobs import api as jobs
from enclave_jobs.releases import api as releases
from enclave_jobs.runs import api as runs
from enclave_jobs.runs import api_receipts
from enclave_jobs.serving import api as serving

urlpatterns = [
    path("lease", jobs.Leases.as_view(), name="agent-lease"),
    path("jobs/<str:job>/progress", jobs.JobProgress.as_view(), name="agent-job-progress"),
    path("jobs/<str:job>/result", jobs.JobResult.as_view(), name="agent-job-result"),
    path("jobs/<str:job>/failure", jobs.JobFailure.as_view(), name="agent-job-failure"),
    path("runs/<str:run>/manifest", runs.RunManifest.as_view(), name="agent-run-manifest"),
    path("runs/<str:run>/receipts", api_receipts.Receipts.as_view(), name="agent-receipts"),
    path("runs/<str:run>/signers/<str:key>", api_receipts.SignerEvidence.as_view(), name="agent-signer"),
    path(
        "runs/<str:run>/aggregator/evidence",
        enclaves.AggregatorEvidence.as_view(),
        name="agent-aggregator-evidence",
    ),
    path(
        "runs/<str:run>/aggregator/challenge",
        enclaves.AggregatorChallenge.as_view(),
        name="agent-aggregator-challenge",
    ),
    path(
        "runs/<str:run>/aggregator/admit", enclaves.AggregatorAdmit.as_view(), name="agent-aggregator-admit"
    ),
    path("releases", releases.Releases.as_view(), name="agent-releases"),
    path("serving", serving.ServedRuns.as_view(), name="agent-serving"),
    path(
        "runs/<str:run>/serving/evidence",
        serving.ServingEvidence.as_view(),
        name="agent-serving-evidence",
    ),
    path("runs/<str:run>/serving/open", serving.ServingOpen.as_view(), name="agent-serving-open"),
    path("runs/<str:run>/serving/step", serving.ServingStep.as_view(), name="agent-serving-step"),
    path("runs/<str:run>/serving/close", serving.ServingClose.as_view(), name="agent-serving-close"),
    path("blobs", blobs.Uploads.as_view(), name="agent-blobs"),
    path("blobs/uploads/<str:upload>", blobs.UploadFrames.as_view(), name="agent-blob-upload"),
    path("blobs/uploads/<str:upload>/parts", api_parts.UploadPart.as_view(), name="agent-blob-part"),
    path("blobs/uploads/<str:upload>/whole", api_parts.UploadWhole.as_view(), name="agent-blob-whole"),
    path("blobs/<str:sha256>/url", api_parts.DownloadAddress.as_view(), name="agent-blob-address"),
    path("blobs/<str:sha256>", blobs.Download.as_view(), name="agent-blob"),
]
