"""QIDO-RS and WADO-RS of a running node, over images that a storage service would have kept."""

from __future__ import annotations

import base64
import http.client
import ssl
from typing import TYPE_CHECKING

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from simulators.node_store import Instance
from simulators.operations import Outcome
from simulators.web.dicomweb import BadQueryError, query_of_parameters

if TYPE_CHECKING:
    from tests.simulators.web.conftest import Images, RunningNode, StartNode


def keep_ct(images: Images, node: str, sop_uid: str, study_uid: str = "2.25.10") -> Instance:
    """Keep pydicom's CT under another SOP Instance UID, as a node does: file, then index row."""
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.SOPInstanceUID = sop_uid
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(sop_uid)
    dataset.StudyInstanceUID = study_uid
    path = images.directory / node / "images" / f"{sop_uid}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path)
    instance = Instance(
        sop_uid, dataset.SOPClassUID, study_uid, dataset.SeriesInstanceUID, dataset.PatientID, str(dataset.PatientName),
        "A-1", dataset.StudyDate, dataset.StudyDescription, "CT", dataset.file_meta.TransferSyntaxUID,
        f"images/{sop_uid}.dcm", path.stat().st_size, "0" * 32, 1, 1_000,
    )  # fmt: skip
    images.put(node, instance)
    return instance


def value(match: dict[str, dict[str, list[object]]], tag: str) -> list[object]:
    return match[tag].get("Value", [])


def test_a_study_is_found_by_each_of_its_keys(start_node: StartNode, images: Images) -> None:
    keep_ct(images, "MACH7-B", "2.25.111")
    node = start_node("MACH7-A")
    viewer = node.logged_in()
    keys = (
        {"StudyInstanceUID": "2.25.10"}, {"PatientID": "1CT1"}, {"PatientID": "1CT?"}, {"AccessionNumber": "A-1"},
        {"StudyDate": "20040119"}, {"StudyDate": "20040101-20040131"}, {"StudyDate": "-20040119"}, {"00100020": "1CT1"},
        {"ModalitiesInStudy": "CT", "limit": "1"},
    )  # fmt: skip
    found = [[value(match, "0020000D") for match in viewer.qido(key, node.attempt())[1]] for key in keys]
    assert found == [[["2.25.10"]]] * len(keys)


def test_a_match_holds_the_attributes_of_the_study(start_node: StartNode, images: Images) -> None:
    keep_ct(images, "MACH7-A", "2.25.111")
    keep_ct(images, "MACH7-B", "2.25.112")
    node = start_node()
    _, (match,) = node.logged_in().qido({}, node.attempt())
    assert match["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "CompressedSamples^CT1"}]}
    assert match["00080020"] == {"vr": "DA", "Value": ["20040119"]}
    assert match["00201208"] == {"vr": "IS", "Value": [2]}
    assert match["00080061"] == {"vr": "CS", "Value": ["CT"]}


def test_retrieve_urls_name_the_host_that_was_asked(start_node: StartNode, images: Images) -> None:
    keep_ct(images, "MACH7-A", "2.25.111")
    node = start_node()
    _, (match,) = node.logged_in().qido({}, node.attempt())
    assert value(match, "00081190") == [f"https://imaging.hospital.example:{node.target.port}/dicom-web/studies/2.25.10"]


def test_a_search_without_a_match_is_answered_with_204(empty_node: RunningNode) -> None:
    node = empty_node
    operation, matches = node.logged_in().qido({"PatientID": "nobody"}, node.attempt())
    assert (operation.outcome, operation.status, matches) == (Outcome.ACKNOWLEDGED, 204, [])


def test_matches_are_paged(start_node: StartNode, images: Images, image: Instance) -> None:
    images.put("MACH7-A", *(image._replace(sop_uid=f"2.25.{n}", study_uid=f"2.25.5{n}", updated_ns=n) for n in range(9)))
    node = start_node()
    viewer = node.logged_in()
    _, matches = viewer.qido({"limit": "2", "offset": "3"}, node.attempt())
    assert [value(match, "0020000D") for match in matches] == [["2.25.55"], ["2.25.54"]]


def test_series_and_instances_of_a_study_are_listed(start_node: StartNode, images: Images, image: Instance) -> None:
    images.put("MACH7-A", image, image._replace(sop_uid="2.25.112"))
    images.put("MACH7-B", image._replace(sop_uid="2.25.113", series_uid="2.25.200", modality="SR"))
    node = start_node()
    viewer = node.logged_in()
    _, series = viewer.qido({}, node.attempt(), "/studies/2.25.10/series")
    _, instances = viewer.qido({}, node.attempt(), "/studies/2.25.10/instances")
    assert [(value(one, "0020000E"), value(one, "00080060"), value(one, "00201209")) for one in series] == [
        (["2.25.100"], ["CT"], [2]),
        (["2.25.200"], ["SR"], [1]),
    ]
    assert [value(one, "00080018") for one in instances] == [["2.25.111"], ["2.25.112"], ["2.25.113"]]


def test_metadata_is_read_from_the_files_of_all_nodes_without_pixels(start_node: StartNode, images: Images) -> None:
    keep_ct(images, "MACH7-A", "2.25.111")
    keep_ct(images, "MACH7-B", "2.25.112")
    node = start_node()
    _, metadata = node.logged_in().qido({}, node.attempt(), "/studies/2.25.10/metadata")
    assert [value(image, "00080018") for image in metadata] == [["2.25.111"], ["2.25.112"]]
    assert value(metadata[0], "00280010") == [128]
    assert "7FE00010" not in metadata[0]


def test_long_binary_values_are_fetched_by_a_relative_address(start_node: StartNode, images: Images, image: Instance) -> None:
    kept = keep_ct(images, "MACH7-B", "2.25.111")
    path = images.directory / "MACH7-B" / kept.file
    dataset = pydicom.dcmread(path)
    dataset.add_new(0x00420011, "OB", b"\x07" * 5000)  # Encapsulated Document
    dataset.save_as(path)
    node = start_node()
    viewer = node.logged_in()
    _, (metadata,) = viewer.qido({}, node.attempt(), "/studies/2.25.10/metadata")
    assert metadata["00420011"]["BulkDataURI"] == "instances/2.25.111/bulkdata/00420011"
    _, answer = viewer.get("/dicom-web/studies/2.25.10/instances/2.25.111/bulkdata/00420011", node.attempt())
    assert answer is not None
    assert answer.body == b"\x07" * 5000


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/studies/2.25.404/series", 404), ("/studies/2.25.404/instances", 404), ("/studies/2.25.404/metadata", 404),
        ("/studies/nonsense/metadata", 400), ("/studies?limit=none", 400), ("/studies?StudyDate=yesterday", 400),
        ("/studies?Nonsense=1", 400), ("/patients", 404),
    ],
)  # fmt: skip
def test_what_is_not_there_or_not_understood_has_its_status(empty_node: RunningNode, path: str, status: int) -> None:
    node = empty_node
    operation, _ = node.logged_in().qido({}, node.attempt(), path)
    assert (operation.outcome, operation.status) == (Outcome.REFUSED, status)


@pytest.mark.parametrize(("password", "status"), [("correct horse", 204), ("wrong", 401), (None, 401)])
def test_http_basic_opens_dicomweb_without_a_session(empty_node: RunningNode, password: str | None, status: int) -> None:
    answered = basic(empty_node, password)
    assert answered.status == status
    assert answered.headers.get("WWW-Authenticate") == ('Basic realm="Mach7"' if status == 401 else None)


def basic(node: RunningNode, password: str | None) -> http.client.HTTPResponse:
    tls = ssl.create_default_context(cafile=str(node.ca_file))
    client = http.client.HTTPSConnection(node.target.address, node.target.port, context=tls, timeout=10)
    credentials = base64.b64encode(f"preflight:{password}".encode()).decode()
    client.request("GET", "/dicom-web/studies", headers={"Authorization": f"Basic {credentials}"} if password else {})
    response = client.getresponse()
    response.read()
    client.close()
    return response


@pytest.mark.parametrize(
    ("date", "first", "last"),
    [("20260102", "20260102", "20260102"), ("20260102-", "20260102", ""), ("-20260102", "", "20260102"), ("", "", "")],
)
def test_a_date_is_a_day_or_a_range(date: str, first: str, last: str) -> None:
    query = query_of_parameters({"StudyDate": date})
    assert (query.date_from, query.date_to) == (first, last)


def test_a_parameter_that_is_not_supported_is_named() -> None:
    with pytest.raises(BadQueryError, match=r"Colour: expected one of StudyInstanceUID, .*, found an unknown parameter"):
        query_of_parameters({"Colour": "red"})
