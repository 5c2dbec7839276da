"""HTTP/1.1 as a client speaks it, without sockets: the bytes of a request, and an answer read from bytes (RFC 9112)."""

from __future__ import annotations

from typing import NamedTuple, overload

import httptools


class BadAnswerError(Exception):
    """What came back is no whole HTTP answer; the message says what it is."""


class Headers:
    """The fields of an answer, by their names in any case (RFC 9110, 5.1)."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[bytes, list[bytes]]) -> None:
        self._values = values  # by names in lower case

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str: ...
    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a field; the default when there is none."""
        values = self._values.get(name.lower().encode())
        return default if values is None else values[0].decode("latin-1")

    def get_all(self, name: str) -> list[str]:
        """Return all values of a field, in their order."""
        return [value.decode("latin-1") for value in self._values.get(name.lower().encode(), ())]

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: str) -> bool:
        return name.lower().encode() in self._values


class Answer(NamedTuple):
    """One HTTP response, whole."""

    status: int
    headers: Headers
    body: bytes

    @property
    def is_login_redirect(self) -> bool:
        """Whether it sends the user to the login page: there is no session."""
        return 300 <= self.status < 400 and self.headers.get("Location", "").partition("?")[0].endswith("/login")

    @property
    def text(self) -> str:
        """The body as UTF-8; what is not, replaced."""
        return self.body.decode("utf-8", "replace")


class AnswerReader:
    """Reads the answer to one request, however the network cut it; parsed by llhttp.

    Attributes
    ----------
    status : int
        Of the answer, as soon as its head has been read; 0 before.
    headers : Headers
        The same; empty before.
    keeps_alive : bool
        Whether the connection may carry another request, once the answer is whole.
    """

    def __init__(self) -> None:
        self.status = 0
        self.keeps_alive = False
        self._values: dict[bytes, list[bytes]] = {}
        self.headers = Headers(self._values)
        self._body: list[bytes] = []
        self._answer: Answer | None = None
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> Answer | None:
        """Take the next bytes; return the answer when they complete it.

        Raises
        ------
        BadAnswerError
            When this is not HTTP.
        """
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise BadAnswerError(f"no HTTP answer ({error}): {data[:40]!r}") from error
        return self._answer

    def end(self) -> Answer:
        """Take the end of the connection; return the answer when that is what ends it (RFC 9112, 6.3).

        Raises
        ------
        BadAnswerError
            When the answer, or some of it, has not come.
        """
        if not self.status or "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            size = sum(map(len, self._body))
            found = f"the end after its head and {size} bytes of its body" if self.status else "the end of the connection"
            raise BadAnswerError(found)
        return Answer(self.status, self.headers, b"".join(self._body))

    def on_message_begin(self) -> None:
        """Hear from the parser that an answer begins; a second one is something that nobody asked for."""
        if self._answer is not None:
            self.keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Hear from the parser of one field."""
        if self._answer is None:
            self._values.setdefault(name.lower(), []).append(value)

    def on_headers_complete(self) -> None:
        """Hear from the parser that the head is whole."""
        if self._answer is None:
            self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """Hear from the parser of a piece of the body."""
        if self._answer is None:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """Hear from the parser that an answer is whole; an interim one (1xx) is passed over (RFC 9110, 15.2)."""
        if self._answer is not None:
            return
        if self.status < 200:
            self.status = 0
            self._values.clear()
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._answer = Answer(self.status, self.headers, body)
        self.keeps_alive = self._parser.should_keep_alive()


def request_line(method: str, target: str) -> bytes:
    """Return the first line of a request, without its end.

    Raises
    ------
    ValueError
        When the target holds what may not stand in it (a blank, a control, anything but ASCII): nothing is sent then.
    """
    if not target.isascii() or not target.isprintable() or " " in target:
        raise ValueError(f"target: expected visible ASCII, found {target!r}; quote it")
    return f"{method} {target} HTTP/1.1".encode()
