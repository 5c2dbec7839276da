"""The pages that people see: login, the list of studies, a study with its results and notes.

Rendered here, without scripts and with nothing from outside: they work offline.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import jinja2
import msgspec
from pydicom.uid import UID
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from .archive import StudyQuery
from .dicomweb import UID_PATTERN, BadQueryError, count_of
from .protocol import COOKIE, DICOMWEB, FORM, NoteBody
from .rendered_pages import PageKey
from .web_node import WebNode, peer_of

PAGES = Path(__file__).with_name("pages")
_STUDIES_A_PAGE = 50
_MOST_STUDIES_A_PAGE = 500
_MOST_IMAGES_A_SERIES = 500  # rows on a study's page; their number is always said
_BODY_BYTES = 65536
_IDENTITY_LENGTH = 64
_HEADERS = {
    "Cache-Control": "no-store",  # patients' names
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
Handler = Callable[[WebNode, Request], Awaitable[Response]]


def routes(web_node: WebNode) -> list[Route]:
    """Return the routes of a node's pages."""
    table: tuple[tuple[str, str, Handler], ...] = (
        ("/", "GET", _home), ("/health", "GET", _health), ("/style.css", "GET", _style), ("/login", "GET", _login_page),
        ("/login", "POST", _login), ("/logout", "POST", _logout), ("/studies", "GET", _studies),
        ("/studies/{study_uid}", "GET", _study), ("/studies/{study_uid}/notes", "POST", _note),
    )  # fmt: skip
    return [Route(path, _endpoint(handler, web_node), methods=[method]) for path, method, handler in table]


async def refused(web_node: WebNode, request: Request, error: Exception) -> Response:
    """Answer a refused request: in one line to programs, with a page to people."""
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "internal error")
    headers = error.headers if isinstance(error, HTTPException) else None
    if request.url.path.startswith(DICOMWEB) or request.method != "GET":
        return PlainTextResponse(f"{detail}\n", status, headers)
    return _page(web_node, request, "message.html", status, heading="This page cannot be shown", detail=detail)


def _endpoint(handler: Handler, web_node: WebNode) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(web_node, request)
        except BadQueryError as error:
            raise HTTPException(400, str(error)) from error

    return endpoint


async def _home(_web_node: WebNode, _request: Request) -> Response:
    return _redirect("/studies")


async def _health(_web_node: WebNode, _request: Request) -> Response:
    return PlainTextResponse("ok")


async def _style(_web_node: WebNode, _request: Request) -> Response:
    return Response(_style_sheet(), media_type="text/css", headers={"Cache-Control": "max-age=3600"})


async def _login_page(web_node: WebNode, request: Request) -> Response:
    return _page(web_node, request, "login.html", wrong=False, entered="")


async def _login(web_node: WebNode, request: Request) -> Response:
    fields = _form(await _body(request))
    user, password = fields.get("user", ""), fields.get("password", "")
    if not web_node.is_password_of(user, password):
        return _page(web_node, request, "login.html", 401, wrong=True, entered=user)
    web_node.end_session(request)
    response = _redirect("/studies")
    response.set_cookie(COOKIE, web_node.begin_session(user), path="/", secure=True, httponly=True, samesite="lax")
    return response


async def _logout(web_node: WebNode, request: Request) -> Response:
    web_node.end_session(request)
    response = _redirect("/login")
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return response


async def _studies(web_node: WebNode, request: Request) -> Response:
    user = web_node.user_of(request)
    if user is None:
        return _redirect("/login")
    key, version = _key(request, user), web_node.pages.version("dicom")
    if (known := web_node.pages.get(key, version)) is not None:
        return known
    asked = request.query_params
    limit = count_of("limit", asked.get("limit", str(_STUDIES_A_PAGE)), 1, _MOST_STUDIES_A_PAGE)
    offset = count_of("offset", asked.get("offset", "0"), 0, 1_000_000)
    patient_id, accession = asked.get("patient_id", "").strip(), asked.get("accession", "").strip()
    # one more than is shown says whether there is a further page
    query = StudyQuery(patient_id=patient_id, accession=accession, limit=limit + 1, offset=offset)
    found = await web_node.reading(web_node.archive.studies, query)
    search = {"patient_id": patient_id, "accession": accession, "limit": limit}
    page = _page(
        web_node, request, "studies.html", studies=found[:limit], patient_id=patient_id, accession=accession, offset=offset,
        earlier=urlencode(search | {"offset": max(0, offset - limit)}) if offset else None,
        further=urlencode(search | {"offset": offset + limit}) if len(found) > limit else None,
    )  # fmt: skip
    web_node.pages.put(key, version, page)
    return page


async def _study(web_node: WebNode, request: Request) -> Response:
    user = web_node.user_of(request)
    if user is None:
        return _redirect("/login")
    key, version = _key(request, user), web_node.pages.version("dicom", "hl7", "https")
    if (known := web_node.pages.get(key, version)) is not None:
        return known
    uid = _study_uid(request)
    record = await web_node.reading(web_node.archive.record, uid)
    if not record.is_known:
        raise HTTPException(404, f"Nothing is known of the study {uid}.")
    page = _page(web_node, request, "study.html", record=record, most=_MOST_IMAGES_A_SERIES)
    web_node.pages.put(key, version, page)
    return page


async def _note(web_node: WebNode, request: Request) -> Response:
    is_form = request.headers.get("Content-Type", "").startswith(FORM)
    user = web_node.user_of(request)
    if user is None:
        return _redirect("/login") if is_form else PlainTextResponse("a session is needed\n", 401)
    uid, body = _study_uid(request), await _body(request)
    note = _note_of_form(body) if is_form else _note_of_json(body)
    if not 1 <= len(note.identity) <= _IDENTITY_LENGTH:
        raise HTTPException(400, f"note: identity: expected 1 to {_IDENTITY_LENGTH} characters, found {len(note.identity)}")
    if not note.text.strip():
        raise HTTPException(400, "note: text: expected some, found none")
    web_node.take_note(uid, note.identity, note.text, body, user, peer_of(request))
    return _redirect(f"/studies/{uid}") if is_form else JSONResponse({"identity": note.identity}, 201)


def _note_of_json(body: bytes) -> NoteBody:
    try:
        return msgspec.json.decode(body, type=NoteBody)
    except msgspec.MsgspecError as error:
        raise HTTPException(400, f'note: expected {{"identity": …, "text": …}}, found: {error}') from error


def _note_of_form(body: bytes) -> NoteBody:
    # what a person types into the page has no identity of a run: it is receipted as foreign
    return NoteBody(f"form-{secrets.token_hex(8)}", _form(body).get("text", ""))


def _form(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _key(request: Request, user: str) -> PageKey:
    raw_path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return PageKey(raw_path + b"?" + query, user)


def _study_uid(request: Request) -> str:
    uid: str = request.path_params["study_uid"]
    if not UID_PATTERN.match(uid):
        raise HTTPException(400, f"study: expected a UID, found {uid!r}")
    return uid


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _BODY_BYTES:
                raise HTTPException(413, f"body: expected at most {_BODY_BYTES} bytes, found more")
    except ClientDisconnect as error:
        raise HTTPException(400, "body: expected it whole, found the end of the connection") from error
    return bytes(body)


def _redirect(path: str) -> Response:
    # relative: a redirect must never name the node behind the balancer
    return RedirectResponse(path, 303, headers={"Cache-Control": "no-store"})


def _page(web_node: WebNode, request: Request, template: str, status: int = 200, **values: object) -> Response:
    text = _templates().get_template(template).render(node=web_node.settings.node, user=web_node.user_of(request), **values)
    return HTMLResponse(text, status, _HEADERS)


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    filters: dict[str, Callable[[Any], str]] = {
        "person": person, "day": day, "moment": moment, "size": size, "uid_name": lambda uid: UID(uid).name,
    }  # fmt: skip
    environment.filters.update(filters)
    return environment


@functools.cache
def _style_sheet() -> bytes:
    return (PAGES / "style.css").read_bytes()


def person(name: str) -> str:
    """Return a DICOM person name as people write it: `DOE^Jane^A` as `DOE, Jane A`."""
    family, *given = name.partition("=")[0].split("^")[:3]
    rest = " ".join(filter(None, given))
    return ", ".join(filter(None, (family, rest))) or "(no name)"


def day(date: str) -> str:
    """Return YYYYMMDD as YYYY-MM-DD, anything else as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date


def moment(clock_ns: int) -> str:
    """Return nanoseconds since 1970 as a date and time, UTC."""
    return datetime.fromtimestamp(clock_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(count: int) -> str:
    """Return a number of bytes with its unit, decimal."""
    if count < 1000:
        return f"{count} B"
    value, unit = (count / 1000, "kB") if count < 1_000_000 else (count / 1_000_000, "MB")
    return f"{value:.1f} {unit}"
