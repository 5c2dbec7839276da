"""The HTTPS service of one node, apart from its pages: who is logged in, what it shows, and what it takes."""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from simulators.journal import Flag, Journal
from simulators.misbehaviour import LATE_BY_S, LEAKED_BYTES, Misbehaviour
from simulators.node_store import NodeStore, Note
from simulators.operations import Kind, Service, identity_of_code
from simulators.service import ServiceSettings

from .archive import Archive
from .protocol import COOKIE, IDENTITY_HEADER
from .rendered_pages import RenderedPages
from .sessions import OwnSessions, Sessions, SharedSessions

_EVERY = 200  # every which note the planted defects meet
_READERS = 2  # threads that read SQLite and files, so that the event loop never waits for them
_P = ParamSpec("_P")
_R = TypeVar("_R")


class WebNode:
    """The state of a node's HTTPS service, in one process of it.

    Parameters
    ----------
    settings : ServiceSettings
        Of the service "https".

    Attributes
    ----------
    archive : Archive
        What there is to show.
    pages : RenderedPages
        What was shown last.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        site = tuple(Path(directory) for directory in settings.site_directories)
        hides = settings.has(Misbehaviour.HIDES_STUDIES_OF_OTHERS)
        self.archive = Archive(site, (settings.node_directory,) if hides else site)
        self.pages = RenderedPages(site)
        several = settings.processes > 1
        self._sessions: Sessions = SharedSessions(settings.node_directory) if several else OwnSessions()
        self._notes_taken = 0
        self._store = NodeStore(settings.node_directory, "https")
        self._journal = Journal(settings.node_directory, settings.node, Service.HTTPS, shared=several)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="archive")

    async def reading(self, read: Callable[_P, _R], *arguments: _P.args, **keywords: _P.kwargs) -> _R:
        """Call a function that reads from disk in a thread of its own, and return what it returns."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, lambda: read(*arguments, **keywords))

    def is_password_of(self, user: str, password: str) -> bool:
        """Say whether a user exists and has this password."""
        expected = self.settings.users.get(user)
        return expected is not None and hmac.compare_digest(expected.encode(), password.encode())

    def begin_session(self, user: str) -> str:
        """Begin a session and return its token."""
        token = secrets.token_urlsafe(32)
        if not self.settings.has(Misbehaviour.LOSES_SESSIONS):
            self._sessions.begin(token, user)
        return token

    def end_session(self, request: HTTPConnection) -> None:
        """Forget the session of a request, if it has one."""
        self._sessions.end(request.cookies.get(COOKIE, ""))

    def user_of(self, request: HTTPConnection) -> str | None:
        """Return who is logged in; None without a session of this node."""
        token = request.cookies.get(COOKIE)
        return None if token is None else self._sessions.user_of(token)

    def take_note(self, study_uid: str, code: str, text: str, body: bytes, user: str, peer: tuple[str, int]) -> None:
        """Store a note and write its receipt; when this returns the note may be acknowledged.

        Parameters
        ----------
        study_uid : str
            The study that it is on. It may be known before its first image, as a result may.
        code : str
            The note's identity; one that is not ours is receipted as foreign.
        text : str
            What the user wrote.
        body : bytes
            The request's body as on the wire: its digest is in the receipt.
        user : str
            Who wrote it.
        peer : (address, port)
            Whom the node sees at the other end.

        Raises
        ------
        RecordError
            When the receipt could not be written: the note must not be acknowledged.
        """
        self._notes_taken += 1
        is_chosen = self._notes_taken % _EVERY == 0
        if is_chosen and self.settings.has(Misbehaviour.LOSES_EVERY_200TH):
            return
        self._store.put(Note(code, study_uid, user, text, time.time_ns()))
        receipt = self._journal.receipt(identity_of_code(code, Kind.NOTE), code, body, peer, user)
        self._journal.append(receipt)
        if is_chosen and self.settings.has(Misbehaviour.STORES_ONE_TWICE):
            self._journal.append(receipt)

    def observe(self, request: HTTPConnection) -> None:
        """Write an observation's receipt when a request names the identity of a query."""
        code = request.headers.get(IDENTITY_HEADER)
        if code is None:
            return
        query = request.scope["query_string"]
        target: bytes = request.scope["raw_path"] + (b"?" + query if query else b"")
        identity, user = identity_of_code(code, Kind.QUERY), self.user_of(request) or ""
        self._journal.append(self._journal.receipt(identity, code, target, peer_of(request), user, Flag.OBSERVATION))


class Observed:
    """ASGI middleware: an observation is on disk before its request is answered."""

    def __init__(self, app: ASGIApp, web_node: WebNode) -> None:
        self._app = app
        self._web_node = web_node

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Observe a request, then pass it on."""
        if scope["type"] == "http":
            self._web_node.observe(HTTPConnection(scope))
        await self._app(scope, receive, send)


class Late:
    """ASGI middleware of a slow node: every request is taken up later, while the event loop goes on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, then pass a request on."""
        if scope["type"] == "http":
            await asyncio.sleep(LATE_BY_S)
        await self._app(scope, receive, send)


class Leaking:
    """ASGI middleware of a node that leaks: some memory of every request is never freed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._leaked: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leak, then pass a request on."""
        if scope["type"] == "http":
            self._leaked.append(os.urandom(LEAKED_BYTES))  # pages of zeros would take no memory
        await self._app(scope, receive, send)


def peer_of(request: HTTPConnection) -> tuple[str, int]:
    """Return the TCP peer as the node sees it (the balancer's address, or the client's behind a transparent one)."""
    if request.client is None:  # the peer was gone before its address could be asked for
        return "0.0.0.0", 0  # noqa: S104  an address that is written down, not bound
    return request.client.host, request.client.port
