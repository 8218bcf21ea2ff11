"""News: what mails tell of, in the browser, read and unread."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from federation.notices import inbox
from federation.notices.texts import brief_of, path_of
from frontend.paging import keyset
from frontend.views.acting import person


@login_required
def news(request: HttpRequest) -> HttpResponse:
    """One page of this person's news, newest first."""
    page = keyset(request, inbox.news_of(person(request)))
    news = [(notice, brief_of(notice.event)) for notice in page.rows]
    shown = {"page": page, "news": news, "new": any(notice.read_at is None for notice in page.rows)}
    return render(request, "frontend/news.html", shown)


@login_required
@require_POST
def read(request: HttpRequest) -> HttpResponse:
    """All of it is read."""
    inbox.mark_read(person(request))
    return redirect("news")


@login_required
@require_POST
def open_one(request: HttpRequest, notice_id: int) -> HttpResponse:
    """It is read, and its page opens."""
    user = person(request)
    notice = get_object_or_404(inbox.news_of(user), pk=notice_id)
    inbox.mark_read(user, notice.pk)
    return redirect(path_of(notice.event))
