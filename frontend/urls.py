"""Addresses of the pages."""

from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, URLResolver, path

from frontend.views import (
    collateral,
    datasets,
    health,
    home,
    log,
    people,
    references,
    runs,
    sites,
    studies,
)

urlpatterns: list[URLPattern | URLResolver] = [
    path("", home.home, name="home"),
    path("healthz", health.healthz, name="healthz"),
    path("sign-in", people.SignIn.as_view(), name="sign-in"),
    path("sign-out", LogoutView.as_view(), name="sign-out"),
    path("invitations/<str:token>/", people.accept, name="invitation"),
    path("people", people.people, name="people"),
    path("people/invite", people.invite, name="person-invite"),
    path("sites", sites.site_list, name="sites"),
    path("sites/invite", sites.invite, name="site-invite"),
    path("sites/<str:site_id>", sites.detail, name="site"),
    path("sites/<str:site_id>/status", sites.status, name="site-status"),
    path("sites/<str:site_id>/enrolment", sites.enrolment, name="site-enrolment"),
    path("sites/<str:site_id>/<str:move>", sites.transition, name="site-transition"),
    path("datasets", datasets.dataset_list, name="datasets"),
    path("datasets/<str:dataset_id>", datasets.detail, name="dataset"),
    path("studies", studies.study_list, name="studies"),
    path("studies/new", studies.new, name="study-new"),
    path("studies/<str:study_id>", studies.detail, name="study"),
    path("studies/<str:study_id>/edit", studies.edit, name="study-edit"),
    path("studies/<str:study_id>/freeze", studies.freeze, name="study-freeze"),
    path("studies/<str:study_id>/reopen", studies.reopen, name="study-reopen"),
    path("studies/<str:study_id>/approve", studies.approve, name="study-approve"),
    path("studies/<str:study_id>/approvals", studies.approvals, name="study-approvals"),
    path("studies/<str:study_id>/launch", studies.launch, name="study-launch"),
    path("runs", runs.run_list, name="runs"),
    path("runs/<str:run_id>", runs.detail, name="run"),
    path("runs/<str:run_id>/live", runs.live, name="run-live"),
    path("runs/<str:run_id>/history", runs.history, name="run-history"),
    path("runs/<str:run_id>/curves", runs.curves, name="run-curves"),
    path("log", log.log_list, name="log"),
    path("log/export", log.export, name="log-export"),
    path("log/<int:index>", log.entry, name="log-entry"),
    path("log/<int:index>/raw/<str:sha256>", log.raw, name="log-raw"),
    path("references", references.reference_list, name="references"),
    path("references/new", references.new, name="reference-new"),
    path("references/<int:reference_id>/suspend", references.suspend, name="reference-suspend"),
    path("reviews/<int:review_id>", references.review, name="review"),
    path("reviews/<int:review_id>/<str:word>", references.vote, name="review-vote"),
    path("collateral", collateral.calendar, name="collateral"),
]
