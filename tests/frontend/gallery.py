"""Every page in a real Chromium: the browser's requests are answered by Django in the test's transaction.

Which pages there are comes from the permission table, so a new page is in the gallery by itself.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from django.test import Client
from django.urls import reverse
from playwright.sync_api import ConsoleMessage, Error, Page

from federation.people.models import User
from frontend.wizard import NAMES
from tests.frontend.test_page_permissions import TABLE, address_of

T = TypeVar("T")
EMPTY = "/an-empty-page"
FRAGMENTS = {
    "site-status",
    "site-checks",
    "study-approvals",
    "study-check",
    "model-jobs",
    "run-live",
    "run-history",
    "operations-workers",
    "study-costs",
    "study-labels",
    "study-advice",
    "run-serving",
    "run-release",
}
"""Parts of a page that htmx fetches; they are seen in their page."""
FILES = ("-csv", "-data", "-curves", "-raw")
MORE = {
    "sign-in": ("", "/sign-in"),
    "password-reset": ("", "/password"),
    "password-reset-sent": ("", "/password/sent"),
    "password-reset-gone": ("", "/password/MQ/none/"),
    "invitation-gone": ("", "/invitations/none/"),
    "help": ("", "/help"),
    "help-role": ("olga", "/help/officer"),
    "not-found": ("olga", "/nothing-here"),
    "forbidden": ("lena", "/people"),
    "log-filtered-empty": ("audrey", "/log?code=none"),
    "audit-filtered-empty": ("audrey", "/audit?actor=none"),
}
PREFERRED = ("alice", "lena", "olga", "audrey")
"""Whose view of a page is looked at: the first who may open it, for pages of a hospital its own admin."""


@dataclass(frozen=True)
class Shown:
    """A page, as one person sees it; `who` is empty for somebody who is not signed in."""

    name: str
    who: str
    address: str


def pages(world: dict[str, Any]) -> list[Shown]:
    """Every page that can be opened, and those that nobody wants to see."""
    found = [Shown(name, who, address) for name, (who, address) in MORE.items()]
    for name, (method, statuses) in TABLE.items():
        if method != "GET" or name in FRAGMENTS or name.endswith(FILES):
            continue
        first = [who for who in PREFERRED if statuses.get(who) == 200]
        if first:
            found.append(Shown(name, first[0], address_of(name, world)))
    sheet = reverse("study", args=[world["study_id"]]) + f"?hospital={world['site_id']}#sheet"
    found.append(Shown("room-sheet", "alice", sheet))
    if "asked_id" in world:
        asked = reverse("sweep", args=[world["asked_id"]])
        found += [Shown("sweep-asked", "alice", asked), Shown("sweep-lead", "lena", asked)]
    return [*found, *_of_the_lead(world)]


def _of_the_lead(world: dict[str, Any]) -> list[Shown]:
    """What only a study's lead sees: their run with its buttons, the comparison of two, an older run, and
    every step of the wizard, for both methods."""
    runs = [("run-lead", world["run_id"]), ("run-ended", world["ended_id"]), ("run-older", world["older_id"])]
    query = "&".join(f"run={run}" for _name, run in runs)
    steps = [
        *(("draft_id", stage) for stage in NAMES[1:]),
        *(("split_id", stage) for stage in ("tuning", "training", "review")),
    ]
    return [
        *(Shown(name, "lena", reverse("run", args=[run])) for name, run in runs),
        Shown("run-result", "lena", reverse("run", args=[world["ended_id"]]) + "#result"),
        Shown("compare-lead", "lena", f"{reverse('compare')}?{query}"),
        Shown("study-draft", "lena", reverse("study", args=[world["draft_id"]])),
        *(
            Shown(f"wizard-{draft[:5]}-{stage}", "lena", reverse("study-step", args=[world[draft], stage]))
            for draft, stage in steps
        ),
    ]


class Desk:
    """Django stays in the test's thread, with the test's transaction. The browser's requests come in at a
    server, and Playwright, whose loop Django would take for an asynchronous caller, has a thread of its own:
    both hand over what Django has to do. `client` is who asks."""

    def __init__(self) -> None:
        self.client = Client(raise_request_exception=False)
        self.origin = ""
        self._waiting: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue()
        self._files: dict[str, Answer] = {}

    def do(self, work: Callable[[], T]) -> T:
        """In another thread: have `work` done by the test's."""
        answer: Future[T] = Future()
        self._waiting.put((work, answer))
        return answer.result(120)

    def serve(self, job: Callable[[], T]) -> T:
        """In the test's thread: run `job` in another one, and work for it until it has ended."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(job())
            except BaseException as error:
                done.set_exception(error)

        with ThreadingHTTPServer(("127.0.0.1", 0), partial(Window, self)) as server:
            server.daemon_threads = True
            self.origin = f"http://127.0.0.1:{server.server_address[1]}"
            threading.Thread(target=server.serve_forever, daemon=True).start()
            threading.Thread(target=run, daemon=True).start()
            while not done.done():
                try:
                    work, answer = self._waiting.get(timeout=0.05)
                except queue.Empty:
                    continue
                try:
                    answer.set_result(work())
                except Exception as error:
                    answer.set_exception(error)
            server.shutdown()
        return done.result()

    def answer(self, path: str, headers: dict[str, str]) -> Answer:
        """What Django says to a request; files that are the same on every page are asked for once."""
        if path.startswith("/static/"):
            if path not in self._files:
                self._files[path] = self.do(lambda: self._ask(path, headers))
            return self._files[path]
        return self.do(lambda: self._ask(path, headers))

    def _ask(self, path: str, headers: dict[str, str]) -> Answer:
        said = self.client.get(path, headers=headers)
        body = b"".join(said.streaming_content) if said.streaming else said.content
        return Answer(said.status_code, dict(said.headers), body)


@dataclass(frozen=True)
class Answer:
    """A response of Django."""

    status: int
    headers: dict[str, str]
    body: bytes


class Window(BaseHTTPRequestHandler):
    """Where the browser asks."""

    protocol_version = "HTTP/1.1"

    def __init__(self, desk: Desk, *reported: Any) -> None:
        self._desk = desk
        super().__init__(*reported)

    def do_GET(self) -> None:
        said = Answer(200, {"Content-Type": "text/html"}, b"")
        if self.path != EMPTY:
            passed_on = ("hx-", "accept", "host")
            asked = {name.lower(): value for name, value in self.headers.items()}
            asked.pop("accept-encoding", None)
            given = {name: value for name, value in asked.items() if name.startswith(passed_on)}
            said = self._desk.answer(self.path, given)
        self.send_response(said.status)
        for name, value in said.headers.items():
            if name.lower() not in ("content-length", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(said.body)))
        self.end_headers()
        self.wfile.write(said.body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def opened(page: Page, desk: Desk, people: dict[str, User], shown: Shown) -> Iterator[None]:
    """The page in this window, its script run and its fragments fetched. One window serves for all pages: a
    browser's process for each costs more than the page does."""
    desk.client = client = Client(raise_request_exception=False)
    if shown.who:
        desk.do(lambda: client.force_login(people[shown.who]))
    faults: list[str] = []

    def fault(error: Error) -> None:
        faults.append(f"{shown.name}: {error}")

    def console(message: ConsoleMessage) -> None:
        expected = ("status of 4", "ERR_INTERNET_DISCONNECTED")  # a test has taken the line away
        if message.type == "error" and not any(each in message.text for each in expected):
            faults.append(f"{shown.name}: {message.text}")

    page.context.clear_cookies()
    page.on("pageerror", fault)
    page.on("console", console)
    try:
        page.goto(desk.origin + shown.address, wait_until="load")
        page.wait_for_timeout(150)  # scripts have run; what renews itself does so later
        yield
    finally:
        page.remove_listener("pageerror", fault)
        page.remove_listener("console", console)
        # Of the same origin, so that the browser's process stays; nothing renews itself on it.
        page.goto(desk.origin + EMPTY)
    assert not faults, faults


def file_name(shown: Shown) -> str:
    return re.sub(r"[^a-z0-9-]", "-", shown.name)
