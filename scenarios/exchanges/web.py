"""The exchanges of WEB-1 and WEB-2: a look at TLS, and a person's visit."""

from __future__ import annotations

from scenarios.checkers.cases import Case
from scenarios.exchanges.places import Desk, Place
from simulators.operations import Kind, Operation, Outcome
from simulators.web.tls_inspection import TlsSeen, inspect_tls

TLS_CASES = ("TLS 1.2 or newer", "TLS 1.0 and 1.1", "chain and validity", "name covered")
VISIT_CASES = (
    "wrong password",
    "login",
    "list of studies",
    "study page",
    "session after a reconnect",
    "study after a reconnect",
)
_NEW_ENOUGH = ("TLSv1.2", "TLSv1.3")


def seen_tls(desk: Desk, place: Place) -> TlsSeen:
    """Look at the TLS of one place, asking for the VIP's name."""
    web = desk.kit.web
    return inspect_tls(place.target, place.source, web.server_name, web.ca_file, desk.timeouts)


def tls_cases(place: Place, seen: TlsSeen) -> list[Case]:
    """Return what was seen as cases."""
    if seen.failure:
        return [Case(what, place.name, "an answer", seen.failure) for what in TLS_CASES]
    old = "accepted" if "accepted" in (seen.tls_1_0, seen.tls_1_1) else "not accepted"
    names = ", ".join(seen.names) or "nothing"
    return [
        Case(TLS_CASES[0], place.name, "yes", "yes" if seen.version in _NEW_ENOUGH else seen.version),
        Case(TLS_CASES[1], place.name, "not accepted", old),
        Case(TLS_CASES[2], place.name, "good", "good" if seen.is_chain_verified else seen.chain_error),
        Case(TLS_CASES[3], place.name, "yes", "yes" if seen.covers_server_name else f"only {names}"),
    ]


def visit(desk: Desk, place: Place) -> list[Case]:
    """Log in as a person does, list the studies, open one, come back over a new connection.

    A person is kept by the cookie alone: after each reconnect the same session must still be known.
    """
    web = desk.kit.web
    viewer = web.viewer(place.target, place.source, desk.timeouts)

    def told(operation: Operation, good: bool, expected: str, found: str) -> str:
        desk.record(operation)
        return (
            expected
            if operation.outcome == Outcome.ACKNOWLEDGED and good
            else found or viewer.last_failure or f"HTTP {operation.status}"
        )

    wrong = desk.record(viewer.login(web.user, "not-" + web.password[:4], desk.attempt(Kind.ECHO)))
    refused = wrong.outcome == Outcome.REFUSED and wrong.status in (401, 403)
    cases = [Case(VISIT_CASES[0], place.name, "refused", "refused" if refused else f"HTTP {wrong.status}")]
    login = viewer.login(web.user, web.password, desk.attempt(Kind.ECHO))
    cases.append(Case(VISIT_CASES[1], place.name, "logged in", told(login, viewer.has_session, "logged in", "")))
    for listed, opened in ((VISIT_CASES[2], VISIT_CASES[3]), (VISIT_CASES[4], VISIT_CASES[5])):
        operation, rows = viewer.studies(desk.attempt(Kind.QUERY))
        cases.append(Case(listed, place.name, "studies", told(operation, bool(rows), "studies", "")))
        operation, page = viewer.study(web.study_uid, desk.attempt(Kind.QUERY))
        cases.append(Case(opened, place.name, "its images", told(operation, page.images > 0, "its images", "")))
        viewer.disconnect()
    viewer.close()
    return cases


def differences(seen: dict[str, TlsSeen]) -> list[str]:
    """Say in what the nodes' certificates and versions differ: a browser that moves from one to the other would notice."""
    words: list[str] = []
    for what, values in (
        ("certificates", {name: tls.fingerprint[:16] for name, tls in seen.items()}),
        ("TLS versions", {name: tls.version for name, tls in seen.items()}),
        ("expiry dates", {name: tls.not_after.date().isoformat() if tls.not_after else "" for name, tls in seen.items()}),
    ):
        if len(set(values.values())) > 1:
            words.append(f"{what} differ: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    return words
