"""One side of the HTTPS benchmark, a process of its own: `python -m tests.benchmarks.https_client SIDE SETTINGS.json`.

SIDE is `ours` (the viewer) or `locust` (the client of Locust's FastHttpUser). Both run in gevent, as in a load run: some
greenlets, each with a client of its own, one request at a time. For every line `keep-alive SECONDS` or `new-session SECONDS`
on its input it asks for the page again and again for so long, and prints how often that was, and how long it took.
"""

from gevent import monkey

monkey.patch_all()  # before anything else is imported: what is imported earlier keeps the blocking calls

import functools  # noqa: E402
import ssl  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402
import msgspec  # noqa: E402

from .https_requests import GREENLETS, ClientSettings  # noqa: E402

_LIMIT_S = 10
Ask = Callable[[], int]  # asks for the page once, and returns the length of its body
Turn = tuple[int, float]  # requests, seconds


def our_clients(settings: ClientSettings) -> list[tuple[Ask, Callable[[], None]]]:
    """Return what asks by a viewer, and what ends its connection, for each greenlet."""
    from simulators.client import Attempt, Target, Timeouts
    from simulators.operations import IdentitySource, Kind, Outcome, Service
    from simulators.web.viewer import Viewer

    target, identities = Target("127.0.0.1", settings.port, Service.HTTPS), IdentitySource(run=1, generator=1)

    def ask(viewer: Viewer) -> int:
        operation, answer = viewer.get(settings.path, Attempt(identities.next(Kind.ECHO)))
        if operation.outcome is not Outcome.ACKNOWLEDGED or answer is None:
            raise RuntimeError(viewer.last_failure)
        return len(answer.body)

    clients: list[tuple[Ask, Callable[[], None]]] = []
    for _ in range(GREENLETS):
        viewer = Viewer(
            target,
            "127.0.0.1",
            server_name="127.0.0.1",
            ca_file=Path(settings.ca_file),
            timeouts=Timeouts(response_s=_LIMIT_S),
        )
        viewer.login(settings.user, settings.password, Attempt(identities.next(Kind.ECHO)))
        clients.append((functools.partial(ask, viewer), viewer.disconnect))
    return clients


def locust_clients(settings: ClientSettings) -> list[tuple[Ask, Callable[[], None]]]:
    """Return the same for the client of Locust's FastHttpUser, with one TLS context for all, which checks the certificate."""
    from locust.contrib.fasthttp import FastHttpSession
    from locust.env import Environment

    events, base = Environment().events, f"https://127.0.0.1:{settings.port}"
    context = ssl.create_default_context(cafile=settings.ca_file)

    def ask(session: FastHttpSession) -> int:
        answer = session.get(settings.path)
        if answer.status_code != 200:
            raise RuntimeError(f"{settings.path}: expected 200, found {answer.status_code}")
        return len(answer.content or b"")

    clients: list[tuple[Ask, Callable[[], None]]] = []
    for _ in range(GREENLETS):
        session = FastHttpSession(
            base, events.request, None, insecure=False, ssl_context_factory=lambda cafile=None: context,
        )  # fmt: skip
        session.post("/login", data={"user": settings.user, "password": settings.password})
        clients.append((functools.partial(ask, session), session.client.close))
    return clients


def turn(clients: list[tuple[Ask, Callable[[], None]]], settings: ClientSettings, way: str, seconds: float) -> Turn:
    """Let all clients ask for the page, on connections that live on or each time on a new one."""
    begin = time.perf_counter()
    end = begin + seconds

    def go_on(ask: Ask, disconnect: Callable[[], None]) -> int:
        count = 0
        while time.perf_counter() < end:
            if way == "new-session":
                disconnect()
            if (found := ask()) != settings.page_bytes:
                raise RuntimeError(f"{settings.path}: expected {settings.page_bytes} bytes, found {found}")
            count += 1
        return count

    greenlets = [gevent.spawn(go_on, *client) for client in clients]
    gevent.joinall(greenlets, raise_error=True)
    return sum(greenlet.value or 0 for greenlet in greenlets), time.perf_counter() - begin


def main(arguments: list[str]) -> None:
    """Take turns until the end of the input."""
    settings = msgspec.json.decode(Path(arguments[2]).read_bytes(), type=ClientSettings)
    clients = our_clients(settings) if arguments[1] == "ours" else locust_clients(settings)
    for line in sys.stdin:
        way, seconds = line.split()
        count, took = turn(clients, settings, way, float(seconds))
        print(count, took, flush=True)  # noqa: T201  the answer


if __name__ == "__main__":
    main(sys.argv)
