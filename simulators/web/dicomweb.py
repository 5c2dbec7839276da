"""DICOMweb of the node: QIDO-RS searches and WADO-RS metadata (PS3.18, chapters 10.6 and 10.4.1.1.2).

Addresses in answers are built from the request's own Host header, or relative: behind a balancer they must name the VIP.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulators.node_store import Instance

from .archive import Archive, Study, StudyQuery
from .protocol import DICOM_JSON, DICOMWEB
from .web_node import WebNode

UID_PATTERN = re.compile(r"^[0-9.]{1,64}$")
MAXIMUM_LIMIT = 1000  # studies in one answer
_BULK_BYTES = 1024  # longer binary values are fetched by themselves
_DATES = re.compile(r"^(?P<day>\d{8})$|^(?P<first>\d{8})?-(?P<last>\d{8})?$")
_PARAMETERS = {
    "StudyInstanceUID": "0020000D", "PatientID": "00100020", "PatientName": "00100010", "AccessionNumber": "00080050",
    "StudyDate": "00080020", "ModalitiesInStudy": "00080061",
}  # fmt: skip
_WITHOUT_EFFECT = {"includefield", "fuzzymatching"}  # allowed to be sent; the answer holds what there is
_OF_TAG = {tag: keyword for keyword, tag in _PARAMETERS.items()}
Element = dict[str, Any]  # one attribute in the DICOM JSON model (PS3.18 F.2)
Handler = Callable[[WebNode, Request], Awaitable[Response]]


class BadQueryError(Exception):
    """A search that cannot be answered; the message says which parameter, what was expected and what was found."""


def routes(web_node: WebNode) -> list[Route]:
    """Return the DICOMweb routes of a node."""
    study = DICOMWEB + "/studies/{study_uid}"
    handlers: dict[str, Handler] = {
        DICOMWEB + "/studies": _search_studies,
        study + "/series": _search_series,
        study + "/instances": _search_instances,
        study + "/metadata": _metadata,
        study + "/instances/{sop_uid}/bulkdata/{tag}": _bulk_data,
    }
    return [Route(path, _authorised(web_node, handler), methods=["GET"]) for path, handler in handlers.items()]


def query_of_parameters(parameters: Mapping[str, str]) -> StudyQuery:
    """Return the search that query parameters ask for (PS3.18 8.3.4); keywords and tags are both understood.

    Raises
    ------
    BadQueryError
        For a parameter that is not supported, or a value that is not one of its kind.
    """
    values: dict[str, str] = {}
    for name, text in parameters.items():
        keyword = _OF_TAG.get(name.upper(), name)
        if keyword not in _PARAMETERS and keyword not in _WITHOUT_EFFECT and keyword not in ("limit", "offset"):
            known = ", ".join((*_PARAMETERS, "limit", "offset"))
            raise BadQueryError(f"{name}: expected one of {known}, found an unknown parameter")
        values[keyword] = text
    first, last = _date_range(values.get("StudyDate", ""))
    uids = tuple(filter(None, re.split(r"[,\\]", values.get("StudyInstanceUID", ""))))
    for uid in uids:
        if not UID_PATTERN.match(uid):
            raise BadQueryError(f"StudyInstanceUID: expected UIDs, found {uid!r}")
    return StudyQuery(
        patient_id=values.get("PatientID", ""), accession=values.get("AccessionNumber", ""),
        patient_name=values.get("PatientName", ""), modality=values.get("ModalitiesInStudy", ""),
        date_from=first, date_to=last, study_uids=uids,
        limit=count_of("limit", values.get("limit", "100"), 1, MAXIMUM_LIMIT),
        offset=count_of("offset", values.get("offset", "0"), 0, 1_000_000),
    )  # fmt: skip


def count_of(name: str, text: str, lowest: int, highest: int) -> int:
    """Return a query parameter that is a number within bounds, or raise BadQueryError."""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and lowest <= int(text) <= highest):
        raise BadQueryError(f"{name}: expected {lowest} to {highest}, found {text!r}")
    return int(text)


def study_attributes(study: Study, host: str) -> Element:
    """Return a study in the DICOM JSON model (PS3.18 10.6.3.3.1); `host` is the request's own Host header."""
    newest = study.newest
    return {
        **_text("00080020", newest.study_date), **_text("00080050", newest.accession),
        **_text("00080061", *study.modalities), **_text("00081030", newest.study_description),
        **_text("00081190", f"https://{host}{DICOMWEB}/studies/{study.study_uid}"),
        **_name("00100010", newest.patient_name), **_text("00100020", newest.patient_id),
        **_text("0020000D", study.study_uid), **_number("00201206", len(study.series)),
        **_number("00201208", len(study.instances)),
    }  # fmt: skip


def series_attributes(study: Study, host: str) -> list[Element]:
    """Return the series of a study in the DICOM JSON model (PS3.18 10.6.3.3.2)."""
    return [
        {
            **_text("00080060", images[0].modality), **_text("0020000D", study.study_uid), **_text("0020000E", series_uid),
            **_text("00081190", f"https://{host}{DICOMWEB}/studies/{study.study_uid}/series/{series_uid}"),
            **_number("00201209", len(images)),
        }
        for series_uid, images in study.series.items()
    ]  # fmt: skip


def instance_attributes(instance: Instance, host: str) -> Element:
    """Return an image in the DICOM JSON model (PS3.18 10.6.3.3.3)."""
    retrieve = (
        f"https://{host}{DICOMWEB}/studies/{instance.study_uid}/series/{instance.series_uid}/instances/{instance.sop_uid}"
    )
    return {
        **_text("00080016", instance.sop_class), **_text("00080018", instance.sop_uid), **_text("00081190", retrieve),
        **_text("00083002", instance.transfer_syntax), **_text("0020000D", instance.study_uid),
        **_text("0020000E", instance.series_uid),
    }  # fmt: skip


def metadata_of(archive: Archive, study: Study) -> bytes:
    """Return the kept images of a study as DICOM JSON, without pixels; long values by a relative BulkDataURI."""
    objects = []
    for instance in study.instances:
        path = archive.kept_file(instance)
        if path is None:
            continue
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        objects.append(dataset.to_json_dict(_BULK_BYTES, functools.partial(_bulk_data_uri, instance.sop_uid)))
    return json.dumps(objects).encode()


def bulk_data_of(archive: Archive, study: Study, sop_uid: str, tag: str) -> bytes | None:
    """Return one binary value of a kept image; None when there is no such image or value."""
    instance = next((instance for instance in study.instances if instance.sop_uid == sop_uid), None)
    path = archive.kept_file(instance) if instance else None
    if path is None or not re.fullmatch(r"[0-9A-Fa-f]{8}", tag):
        return None
    element = pydicom.dcmread(path, stop_before_pixels=True).get(Tag(int(tag, 16)))
    value = element.value if isinstance(element, DataElement) else None
    return value if isinstance(value, bytes) else None


def _bulk_data_uri(sop_uid: str, element: DataElement) -> str:
    return f"instances/{sop_uid}/bulkdata/{element.tag:08X}"  # relative to …/studies/{study}/metadata


def _authorised(web_node: WebNode, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if web_node.user_of(request) is None and not _has_basic_password(web_node, request):
            return Response("a session or HTTP Basic is needed\n", 401, {"WWW-Authenticate": 'Basic realm="Mach7"'})
        uid = request.path_params.get("study_uid")
        if uid is not None and not UID_PATTERN.match(uid):
            raise HTTPException(400, f"study: expected a UID, found {uid!r}")
        try:
            return await handler(web_node, request)
        except BadQueryError as error:
            raise HTTPException(400, str(error)) from error

    return endpoint


def _has_basic_password(web_node: WebNode, request: Request) -> bool:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return web_node.is_password_of(user, password)


async def _search_studies(web_node: WebNode, request: Request) -> Response:
    studies = await web_node.reading(web_node.archive.studies, query_of_parameters(request.query_params))
    if not studies:
        return Response(status_code=204)  # PS3.18 table 10.6.3-1: no match
    return _json([study_attributes(study, _host(request)) for study in studies])


async def _search_series(web_node: WebNode, request: Request) -> Response:
    return _json(series_attributes(await _study(web_node, request), _host(request)))


async def _search_instances(web_node: WebNode, request: Request) -> Response:
    study = await _study(web_node, request)
    limit = count_of("limit", request.query_params.get("limit", "10000"), 1, 10_000)
    offset = count_of("offset", request.query_params.get("offset", "0"), 0, 1_000_000)
    chosen = study.instances[offset : offset + limit]
    return _json([instance_attributes(instance, _host(request)) for instance in chosen])


async def _metadata(web_node: WebNode, request: Request) -> Response:
    study = await _study(web_node, request)
    try:
        return Response(await web_node.reading(metadata_of, web_node.archive, study), media_type=DICOM_JSON)
    except (InvalidDicomError, OSError) as error:
        raise HTTPException(500, f"a kept file cannot be read: {error}") from error


async def _bulk_data(web_node: WebNode, request: Request) -> Response:
    study = await _study(web_node, request)
    sop_uid, tag = request.path_params["sop_uid"], request.path_params["tag"]
    value = await web_node.reading(bulk_data_of, web_node.archive, study, sop_uid, tag)
    if value is None:
        raise HTTPException(404, f"{sop_uid}, {tag}: there is no such value")
    return Response(value, media_type="application/octet-stream")


async def _study(web_node: WebNode, request: Request) -> Study:
    uid: str = request.path_params["study_uid"]
    study = await web_node.reading(web_node.archive.study, uid)
    if study is None:
        raise HTTPException(404, f"{uid}: there is no such study")
    return study


def _json(content: Element | list[Element]) -> Response:
    return Response(json.dumps(content).encode(), media_type=DICOM_JSON)


def _host(request: Request) -> str:
    return request.headers.get("Host", "")


def _date_range(text: str) -> tuple[str, str]:
    if not text:
        return "", ""
    match = _DATES.match(text)
    if match is None or text == "-":
        raise BadQueryError(f"StudyDate: expected YYYYMMDD or a range of two with a hyphen, found {text!r}")
    day = match["day"] or ""
    return match["first"] or day, match["last"] or day


def _text(tag: str, *values: str) -> Element:
    filled = [value for value in values if value]
    element: Element = {"vr": dictionary_VR(int(tag, 16))}
    return {tag: element | {"Value": filled} if filled else element}


def _number(tag: str, value: int) -> Element:
    return {tag: {"vr": dictionary_VR(int(tag, 16)), "Value": [value]}}


def _name(tag: str, name: str) -> Element:
    groups = dict(zip(("Alphabetic", "Ideographic", "Phonetic"), name.split("="), strict=False))
    filled = {group: text for group, text in groups.items() if text}
    return {tag: {"vr": "PN", "Value": [filled]} if filled else {"vr": "PN"}}
