"""A web viewer: a person's browser as a client, over a blocking socket with its own source address.

A network that fails is a fate, not an exception: every request ends as an `Operation`. Nothing is resent silently; only a
connection that the server has closed *before* a request is replaced, as not one byte of that request has left.
"""

from __future__ import annotations

import http.cookies
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
import xxhash

from simulators.client import Attempt, Begun, Connection, Failed, Target, Timeouts
from simulators.operations import Kind, Operation, Outcome, Phase

from .http_answer import Answer, AnswerReader, BadAnswerError, request_line
from .page_reader import NoteSeen, StudyPage, StudyRow, study_page, study_rows
from .protocol import DICOM_JSON, DICOMWEB, FORM, IDENTITY_HEADER, NODE_HEADER, NoteBody
from .secured_connection import SecuredConnection, trusting
from .tls_inspection import TlsSeen, inspect_tls

__all__ = ["Answer", "NoteSeen", "StudyPage", "StudyRow", "TlsSeen", "Viewer", "inspect_tls"]


class _Request(NamedTuple):
    method: str
    target: str
    body: bytes | None = None
    content_type: str = ""
    accept: str = "text/html"


class Viewer:
    """One user at one workstation. Not for two threads at a time.

    Parameters
    ----------
    target : Target
        The VIP, or a real server itself.
    source : str
        The source address; the port is the kernel's choice.
    server_name : str
        The host name or address that the certificate must cover, and that the Host header names.
    ca_file : Path
        PEM of the authority to trust.
    timeouts : Timeouts
        `connect_s` for TCP, `negotiate_s` for TLS, `send_s` for a request, `response_s` for one whole response.

    Attributes
    ----------
    node : str
        Who answered last, as the node told it; empty when it did not.
    has_session : bool
        Whether a login succeeded and no answer since has said otherwise. The cookie outlives reconnects.
    last_failure : str
        Why the last attempt was not acknowledged; empty when it was.

    Raises
    ------
    OSError
        When `ca_file` cannot be read (ssl.SSLError, a kind of OSError, when it is no certificate).
    """

    def __init__(self, target: Target, source: str, *, server_name: str, ca_file: Path, timeouts: Timeouts) -> None:
        self.target = target
        self.source = source
        self.node = ""
        self.has_session = False
        self.last_failure = ""
        self._server_name = server_name
        self._timeouts = timeouts
        self._tls = trusting(ca_file)
        self._cookies: dict[str, str] = {}
        self._connection: Connection | None = None  # also when TLS was refused on it
        self._secured: SecuredConnection | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that the server has not closed."""
        return self._secured is not None and self._secured.is_alive()

    def login(self, user: str, password: str, attempt: Attempt) -> Operation:
        """Log in. Acknowledged when the node began a session (303 away from the login page); a wrong password is 401."""
        operation, _ = self.post_login(user, password, attempt)
        return operation

    def post_login(self, user: str, password: str, attempt: Attempt) -> tuple[Operation, Answer | None]:
        """Log in as `login` does, and return the whole answer with its cookie; None when there was none."""
        operation, answer = self.post_form("/login", {"user": user, "password": password}, attempt)
        if operation.outcome == Outcome.ACKNOWLEDGED:
            self.has_session = True
        return operation, answer

    def post_form(self, path: str, fields: dict[str, str], attempt: Attempt) -> tuple[Operation, Answer | None]:
        """Send a form as a page does; acknowledged by a redirect (303) to anywhere but the login page."""
        return self._exchange(_Request("POST", path, urlencode(fields).encode(), FORM), attempt, expected=(303,))

    def logout(self, attempt: Attempt) -> Operation:
        """End the session."""
        operation, _ = self._exchange(_Request("POST", "/logout", b"", FORM), attempt, expected=(303,), login_is_lost=False)
        self.has_session = False
        return operation

    def page(self, path: str, attempt: Attempt) -> tuple[Operation, str]:
        """Get a page and return its HTML; "" when there was no answer. A redirect to the login page is a lost session."""
        operation, answer = self.get(path, attempt)
        return operation, answer.text if answer else ""

    def get(self, path: str, attempt: Attempt) -> tuple[Operation, Answer | None]:
        """Get a path as `page` does, and return the whole answer with its headers; None when there was none."""
        return self._exchange(_Request("GET", path), attempt)

    def studies(
        self, attempt: Attempt, *, patient_id: str | None = None, limit: int | None = None
    ) -> tuple[Operation, list[StudyRow]]:
        """Get the list of studies as a person sees it: its first page, the newest first.

        Parameters
        ----------
        attempt : Attempt
            Of a query.
        patient_id : str or None
            Search for it (`*` and `?` are wildcards); None: all.
        limit : int or None
            Studies on the page, 1 to 500; None: as the node does.
        """
        search = {"patient_id": patient_id, "limit": limit}
        query = urlencode({name: value for name, value in search.items() if value is not None})
        operation, page = self.page(f"/studies?{query}" if query else "/studies", attempt)
        return operation, study_rows(page) if operation.outcome == Outcome.ACKNOWLEDGED else []

    def study(self, study_uid: str, attempt: Attempt) -> tuple[Operation, StudyPage]:
        """Get the page of a study; an empty StudyPage when there was none."""
        operation, page = self.page(f"/studies/{study_uid}", attempt)
        return operation, study_page(page) if operation.outcome == Outcome.ACKNOWLEDGED else StudyPage()

    def note(self, study_uid: str, text: str, attempt: Attempt) -> Operation:
        """Write a note on a study: the attempt's identity (of Kind.NOTE) is the note's. Digest and size are of the body."""
        body = msgspec.json.encode(NoteBody(attempt.identity.code, text))
        request = _Request("POST", f"/studies/{study_uid}/notes", body, "application/json", "application/json")
        operation, _ = self._exchange(request, attempt, expected=(201,))
        return operation

    def qido(
        self, parameters: dict[str, str], attempt: Attempt, path: str = "/studies"
    ) -> tuple[Operation, list[dict[str, Any]]]:
        """Search by QIDO-RS and return the matches in the DICOM JSON model (PS3.18 F.2).

        Parameters
        ----------
        parameters : dict of str to str
            The query's parameters (`PatientID`, `StudyInstanceUID`, `limit`, …).
        attempt : Attempt
            Of a query.
        path : str
            What is searched: "/studies", "/studies/{uid}/series", "/studies/{uid}/instances"; "/studies/{uid}/metadata"
            (WADO-RS) is answered in the same form.
        """
        target = DICOMWEB + path + (f"?{urlencode(parameters)}" if parameters else "")
        operation, answer = self._exchange(_Request("GET", target, accept=DICOM_JSON), attempt, expected=(200, 204))
        if operation.outcome != Outcome.ACKNOWLEDGED or answer is None or answer.status == 204:
            return operation, []
        try:
            return operation, msgspec.json.decode(answer.body, type=list[dict[str, Any]])
        except msgspec.MsgspecError as error:
            self.last_failure = f"{target}: expected a list in DICOM JSON, found {error}"
            return operation._replace(outcome=Outcome.REFUSED), []

    def observe(self, attempt: Attempt) -> Operation:
        """Ask for the node's health, which needs no session; the node notes whom it saw under the attempt's identity."""
        operation, _ = self._exchange(_Request("GET", "/health", accept="text/plain"), attempt)
        return operation

    def disconnect(self) -> None:
        """Drop the connection and keep the cookies, as a browser does."""
        if self._secured is not None:
            self._secured.close()
        elif self._connection is not None:
            self._connection.close()
        self._connection = self._secured = None

    def close(self) -> None:
        """Drop the connection and forget the session."""
        self.disconnect()
        self._cookies.clear()
        self.has_session = False

    def _exchange(
        self, request: _Request, attempt: Attempt, *, expected: tuple[int, ...] = (200,), login_is_lost: bool = True
    ) -> tuple[Operation, Answer | None]:
        """Send one request, read its response, and tell the fate of the attempt."""
        line = request_line(request.method, request.target)
        begun = Begun(attempt, self.target, self.source)
        payload = request.body if attempt.identity.kind == Kind.NOTE and request.body is not None else request.target.encode()
        size_bytes, digest = len(payload), xxhash.xxh3_128_digest(payload)
        self.last_failure = ""
        answer, connection = None, None
        try:
            secured = self._connected()
            connection = secured.connection
            answer = self._answer(secured, request, line + self._fields(request, attempt))
            self._judge(request, answer, expected, login_is_lost)
            outcome, phase, status = Outcome.ACKNOWLEDGED, Phase.DONE, answer.status
        except Failed as failed:
            connection = connection or self._connection
            outcome, phase, status, self.last_failure = failed.outcome, failed.phase, failed.status, failed.reason
            if failed.phase < Phase.DONE:
                self.disconnect()
        operation = begun.ended(outcome, phase, connection, status=status, size_bytes=size_bytes, digest=digest)
        return operation, answer

    def _connected(self) -> SecuredConnection:
        """Return a connection with TLS; one that the server closed meanwhile is replaced."""
        if self._secured is not None and self._secured.is_alive():
            return self._secured
        self.disconnect()
        self._connection = Connection(self.target, self.source, self._timeouts)
        try:
            self._secured = SecuredConnection(self._connection, self._tls, self._server_name, self._timeouts.negotiate_s)
        except OSError as error:  # ssl.SSLError and ssl.CertificateError are kinds of it
            reason = f"{self._where()}: expected TLS with a trusted certificate for {self._server_name}, found {error}"
            raise Failed(Outcome.REFUSED, Phase.NEGOTIATE, reason) from error
        return self._secured

    def _answer(self, secured: SecuredConnection, request: _Request, head: bytes) -> Answer:
        reader = AnswerReader()
        try:
            secured.send(head + (request.body or b""), self._timeouts.send_s)
        except OSError as error:
            raise self._broken(Phase.SEND, "the request to leave", error, 0) from error
        try:
            answer = self._read(secured, reader)
        except (OSError, BadAnswerError) as error:
            secured.connection.node = reader.headers.get(NODE_HEADER, "")
            wanted = f"a response to {request.method} {request.target}"
            raise self._broken(Phase.RESPONSE, wanted, error, reader.status) from error
        self.node = secured.connection.node = answer.headers.get(NODE_HEADER, "")
        if not reader.keeps_alive:
            self.disconnect()
        self._keep_cookies(answer)
        return answer

    def _read(self, secured: SecuredConnection, reader: AnswerReader) -> Answer:
        """Read one whole response, before its time limit."""
        left_s = self._timeouts.response_s
        deadline = time.monotonic() + left_s
        while left_s > 0:
            data = secured.receive(left_s)
            answer = reader.feed(data) if data else reader.end()
            if answer is not None:
                return answer
            left_s = deadline - time.monotonic()
        raise TimeoutError(f"HTTP status {reader.status} and not all of the response at the time limit")

    def _judge(self, request: _Request, answer: Answer, expected: tuple[int, ...], login_is_lost: bool) -> None:
        """Raise Failed unless the response is an acknowledgement."""
        if answer.is_login_redirect and login_is_lost:
            self.has_session = False
            reason = f"{request.target}: expected a page of the session, found a redirect to the login page"
            raise Failed(Outcome.REFUSED, Phase.DONE, reason, answer.status)
        if answer.status not in expected:
            if answer.status == 401:
                self.has_session = False
            wanted = " or ".join(map(str, expected))
            reason = f"{request.method} {request.target}: expected HTTP {wanted}, found {answer.status}"
            raise Failed(Outcome.REFUSED, Phase.DONE, reason, answer.status)

    def _fields(self, request: _Request, attempt: Attempt) -> bytes:
        """Return the header of a request behind its first line, to its end."""
        port = "" if self.target.port == 443 else f":{self.target.port}"
        fields = (
            f"\r\nHost: {self._server_name}{port}\r\nUser-Agent: Preflight\r\nAccept-Encoding: identity"
            f"\r\nAccept: {request.accept}"
        )
        if request.content_type:
            fields += f"\r\nContent-Type: {request.content_type}"
        if request.body is not None:
            fields += f"\r\nContent-Length: {len(request.body)}"
        if self._cookies:
            fields += "\r\nCookie: " + "; ".join([f"{name}={value}" for name, value in self._cookies.items()])
        if attempt.identity.kind == Kind.QUERY:
            fields += f"\r\n{IDENTITY_HEADER}: {attempt.identity.code}"
        return (fields + "\r\n\r\n").encode("latin-1")

    def _keep_cookies(self, answer: Answer) -> None:
        for line in answer.headers.get_all("Set-Cookie"):
            for name, morsel in http.cookies.SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    self._cookies.pop(name, None)
                else:
                    self._cookies[name] = morsel.value

    def _broken(self, phase: Phase, wanted: str, error: Exception, status: int) -> Failed:
        found = str(error) or type(error).__name__
        return Failed(Outcome.INDETERMINATE, phase, f"{self._where()}: expected {wanted}, found {found}", status)

    def _where(self) -> str:
        return f"{self.source} to {self.target.address}:{self.target.port}"
