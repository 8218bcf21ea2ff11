"""Every address of the coordinator: the agents' API, its schema, and the pages."""

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

urlpatterns = [
    path("api/agent/v1/", include("federation.api_urls")),
    path("api/agent/v1/", include("enclave_jobs.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("", include("frontend.urls")),
]

handler404 = "frontend.views.errors.not_found"
handler500 = "frontend.views.errors.server_error"
