"""The node's HTTPS service as a process: sessions, pages, notes, misbehaviours, its end."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import xxhash

from simulators.client import Target
from simulators.journal import Flag, Receipt, journal_path, read_receipts
from simulators.misbehaviour import Misbehaviour
from simulators.node_store import Instance, NodeStore, Order, Result, SiteReader
from simulators.operations import Kind, Outcome, Service, text_address
from simulators.service import ServiceSettings
from simulators.web.page_reader import NoteSeen

if TYPE_CHECKING:
    from tests.simulators.web.conftest import Images, RunningNode, StartNode

REPOSITORY = Path(__file__).parents[3]


def receipts(node: RunningNode) -> list[Receipt]:
    return list(read_receipts(journal_path(node.directory, Service.HTTPS)))


def test_a_login_opens_the_list_of_studies(empty_node: RunningNode) -> None:
    node = empty_node
    viewer = node.viewer()
    assert viewer.login("preflight", "correct horse", node.attempt()).outcome == Outcome.ACKNOWLEDGED
    operation, studies = viewer.studies(node.attempt())
    assert (operation.outcome, operation.status, operation.node, studies) == (Outcome.ACKNOWLEDGED, 200, b"MACH7-A", [])


def test_a_wrong_password_is_refused_with_401(empty_node: RunningNode) -> None:
    node = empty_node
    operation = node.viewer().login("preflight", "wrong", node.attempt())
    assert (operation.outcome, operation.status) == (Outcome.REFUSED, 401)


def test_a_page_without_a_session_leads_to_the_login_page_and_names_no_host(empty_node: RunningNode) -> None:
    node = empty_node
    operation, answer = node.viewer().get("/studies/2.25.1", node.attempt())
    assert (operation.outcome, operation.status) == (Outcome.REFUSED, 303)
    assert answer is not None
    assert answer.headers["Location"] == "/login"


def test_a_session_cookie_is_kept_from_scripts_from_plain_http_and_from_other_hosts(empty_node: RunningNode) -> None:
    node = empty_node
    _, answer = node.viewer().post_login("preflight", "correct horse", node.attempt())
    assert answer is not None
    attributes = [part.strip() for part in answer.headers["Set-Cookie"].split(";")[1:]]
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=lax", "Secure"]


def test_a_session_is_known_to_the_node_that_made_it_alone(start_node: StartNode) -> None:
    one, other = start_node("MACH7-A"), start_node("MACH7-B")
    viewer = one.logged_in()
    viewer.disconnect()
    viewer.target = other.target  # what a balancer without persistence does
    lost, _ = viewer.studies(one.attempt())
    assert (lost.outcome, lost.node, viewer.has_session) == (Outcome.REFUSED, b"MACH7-B", False)
    viewer.disconnect()
    viewer.target = one.target
    kept, _ = viewer.studies(one.attempt())
    assert (kept.outcome, kept.node) == (Outcome.ACKNOWLEDGED, b"MACH7-A")


def test_a_logout_ends_the_session(empty_node: RunningNode) -> None:
    node = empty_node
    viewer = node.logged_in()
    assert viewer.logout(node.attempt()).outcome == Outcome.ACKNOWLEDGED
    assert not viewer.has_session
    assert viewer.page("/studies", node.attempt())[0].status == 303


def test_studies_of_all_nodes_are_listed_and_a_study_split_between_them_is_one(
    start_node: StartNode, images: Images, image: Instance
) -> None:
    images.put("MACH7-A", image, image._replace(sop_uid="2.25.112", updated_ns=2_000))
    images.put("MACH7-B", image._replace(sop_uid="2.25.113", updated_ns=3_000))
    images.put("MACH7-B", image._replace(sop_uid="2.25.211", study_uid="2.25.20", patient_id="P-2", updated_ns=4_000))
    node = start_node("MACH7-A")
    _, studies = node.logged_in().studies(node.attempt())
    assert [(study.study_uid, study.patient_id, study.images) for study in studies] == [
        ("2.25.20", "P-2", 1),
        ("2.25.10", "P-1", 3),
    ]


def test_studies_are_searched_by_patient_and_accession(start_node: StartNode, images: Images, image: Instance) -> None:
    images.put("MACH7-A", image, image._replace(sop_uid="2.25.211", study_uid="2.25.20", patient_id="P-2", accession="A-2"))
    node = start_node()
    viewer = node.logged_in()
    exact = viewer.studies(node.attempt(), patient_id="P-2")[1]
    wild = viewer.studies(node.attempt(), patient_id="P-*")[1]
    none = viewer.studies(node.attempt(), patient_id="P-3")[1]
    assert ([study.study_uid for study in exact], len(wild), none) == (["2.25.20"], 2, [])
    operation, page = viewer.page("/studies?accession=A-1", node.attempt())
    assert operation.outcome == Outcome.ACKNOWLEDGED
    assert "2.25.10" in page
    assert "2.25.20" not in page


def test_thousands_of_studies_are_shown_page_by_page(start_node: StartNode, images: Images, image: Instance) -> None:
    for node_name, first in (("MACH7-A", 0), ("MACH7-B", 1)):
        rows = (
            image._replace(sop_uid=f"2.25.9{n:05}", study_uid=f"2.25.8{n:05}", patient_id=f"P-{n}", updated_ns=n)
            for n in range(first, 4000, 2)
        )
        images.put(node_name, *rows)
    node = start_node()
    viewer = node.logged_in()
    _, newest = viewer.studies(node.attempt(), limit=3)
    assert [study.patient_id for study in newest] == ["P-3999", "P-3998", "P-3997"]
    operation, last = viewer.page("/studies?limit=50&offset=3950", node.attempt())
    assert operation.outcome == Outcome.ACKNOWLEDGED
    assert "Studies 3951 to 4000" in last
    assert 'rel="next"' not in last


def test_a_study_page_shows_images_results_and_notes_of_all_nodes(
    start_node: StartNode, images: Images, image: Instance, tmp_path: Path
) -> None:
    images.put("MACH7-A", image)
    hl7 = NodeStore(tmp_path / "MACH7-B", "hl7")
    hl7.put(Result("A-1", "", "P-1", "F", "No fracture.\n<b>2 & 3</b>", 5_000))
    hl7.close()
    node = start_node()
    viewer = node.logged_in()
    note = node.attempt(Kind.NOTE)
    assert viewer.note("2.25.10", "Called the ward.", note).status == 201
    _, page = viewer.study("2.25.10", node.attempt())
    assert (page.patient_id, page.patient_name, page.images, page.sop_uids) == ("P-1", "DOE^Jane", 1, ("2.25.111",))
    assert page.results == ("No fracture.\n<b>2 & 3</b>",)
    assert page.notes == (NoteSeen(note.identity.code, "Called the ward."),)


def test_a_study_that_was_only_ordered_has_a_page(start_node: StartNode, tmp_path: Path) -> None:
    hl7 = NodeStore(tmp_path / "MACH7-B", "hl7")
    hl7.put(Order("A-9", "P-9", "ROE^Max", "", "M", "MR", "MR1", "20260301", "0900", "S", "R", "Knee", "2.25.90", "NW", 1))
    hl7.close()
    node = start_node()
    _, page = node.logged_in().study("2.25.90", node.attempt())
    assert (page.patient_id, page.patient_name, page.accession, page.images) == ("P-9", "ROE^Max", "A-9", 0)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/studies/2.25.404", 404), ("/studies/not-a-uid", 400), ("/studies?limit=0", 400), ("/nowhere", 404)],
)
def test_what_is_not_there_or_not_understood_is_said(empty_node: RunningNode, path: str, status: int) -> None:
    node = empty_node
    operation, _ = node.logged_in().page(path, node.attempt())
    assert (operation.outcome, operation.status) == (Outcome.REFUSED, status)


def test_a_note_is_receipted_before_its_acknowledgement_and_outlives_kill_9(start_node: StartNode) -> None:
    node = start_node()
    viewer = node.logged_in()
    attempt = node.attempt(Kind.NOTE)
    operation = viewer.note("2.25.10", "Called the ward.", attempt)
    node.process.kill()
    node.process.wait(10)
    assert (operation.outcome, operation.status) == (Outcome.ACKNOWLEDGED, 201)
    (receipt,) = [receipt for receipt in receipts(node) if not receipt.flags]
    assert (receipt.run, receipt.key, receipt.kind, receipt.digest) == (77, attempt.identity.key, Kind.NOTE, operation.digest)
    assert (text_address(receipt.peer), receipt.peer_port) == ("127.0.0.1", operation.source_port)
    assert receipt.caller.rstrip(b"\0") == b"preflight"
    (note,) = SiteReader([node.directory]).notes()
    assert (note.identity, note.study_uid, note.author, note.text) == (
        attempt.identity.code, "2.25.10", "preflight", "Called the ward.",
    )  # fmt: skip


def test_a_note_without_a_session_is_refused_with_401_and_not_receipted(start_node: StartNode) -> None:
    node = start_node()
    operation = node.viewer().note("2.25.10", "Called the ward.", node.attempt(Kind.NOTE))
    assert (operation.outcome, operation.status) == (Outcome.REFUSED, 401)
    assert receipts(node) == []


def test_a_note_typed_into_the_page_is_kept_and_receipted_as_foreign(start_node: StartNode) -> None:
    node = start_node()
    viewer = node.logged_in()
    operation, _ = viewer.post_form("/studies/2.25.10/notes", {"text": "By hand."}, node.attempt(Kind.ECHO))
    assert operation.status == 303
    assert [receipt.flags for receipt in receipts(node) if not receipt.flags & Flag.OBSERVATION] == [Flag.FOREIGN]
    _, page = viewer.study("2.25.10", node.attempt())
    assert [note.text for note in page.notes] == ["By hand."]


def test_an_observed_request_leaves_a_receipt_of_whom_the_node_saw(start_node: StartNode) -> None:
    node = start_node()
    viewer = node.viewer("127.1.0.9")
    attempt = node.attempt()
    operation = viewer.observe(attempt)
    assert (operation.outcome, viewer.node) == (Outcome.ACKNOWLEDGED, "MACH7-A")
    (receipt,) = receipts(node)
    assert (receipt.key, receipt.kind, receipt.flags) == (attempt.identity.key, Kind.QUERY, Flag.OBSERVATION)
    assert (text_address(receipt.peer), receipt.peer_port) == ("127.1.0.9", operation.source_port)
    assert receipt.digest == operation.digest == xxhash.xxh3_128_digest(b"/health")


def test_a_node_that_loses_sessions_sends_the_user_back_to_the_login_page(start_node: StartNode) -> None:
    node = start_node(misbehaviour=(Misbehaviour.LOSES_SESSIONS,))
    viewer = node.logged_in()
    operation, _ = viewer.studies(node.attempt())
    assert (operation.outcome, operation.status, viewer.has_session) == (Outcome.REFUSED, 303, False)


def test_a_node_that_hides_studies_of_others_lists_its_own_alone(
    start_node: StartNode, images: Images, image: Instance
) -> None:
    images.put("MACH7-A", image)
    images.put("MACH7-B", image._replace(sop_uid="2.25.211", study_uid="2.25.20"))
    node = start_node(misbehaviour=(Misbehaviour.HIDES_STUDIES_OF_OTHERS,))
    _, studies = node.logged_in().studies(node.attempt())
    assert [study.study_uid for study in studies] == ["2.25.10"]


@pytest.mark.parametrize(
    ("misbehaviour", "expected"), [(Misbehaviour.LOSES_EVERY_200TH, 0), (Misbehaviour.STORES_ONE_TWICE, 2), (None, 1)]
)
def test_the_200th_note_shows_the_planted_defect(
    start_node: StartNode, misbehaviour: Misbehaviour | None, expected: int
) -> None:
    node = start_node(misbehaviour=(misbehaviour,) if misbehaviour else ())
    viewer = node.logged_in()
    attempts = [node.attempt(Kind.NOTE) for _ in range(201)]
    assert {viewer.note("2.25.10", "seen", attempt).outcome for attempt in attempts} == {Outcome.ACKNOWLEDGED}
    taken = [receipt.key for receipt in receipts(node) if receipt.kind == Kind.NOTE]
    assert [taken.count(attempt.identity.key) for attempt in attempts[198:]] == [1, expected, 1]


def test_sigterm_ends_the_service_with_0_although_a_viewer_keeps_its_connection(start_node: StartNode) -> None:
    node = start_node()
    viewer = node.logged_in()
    assert viewer.is_open
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(10) == 0
    assert not viewer.is_open


def test_bytes_that_are_not_tls_end_their_connection_and_nothing_else(empty_node: RunningNode) -> None:
    node = empty_node
    viewer = node.logged_in()
    with socket.create_connection(node.target[:2], 10) as stranger:
        stranger.sendall(b"\x01\x00\x00\x00\x00\x10A-ASSOCIATE-RQ it is not")
        while stranger.recv(4096):
            pass
    assert viewer.studies(node.attempt())[0].outcome == Outcome.ACKNOWLEDGED


def test_the_backlog_of_the_inherited_listener_is_left_as_it_was_given(start_node: StartNode, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=7) as listener:
        first = start_node()
        settings = msgspec.json.decode((tmp_path / "MACH7-A.json").read_bytes(), type=ServiceSettings)
        settings = msgspec.structs.replace(settings, listen_fd=listener.fileno())
        (tmp_path / "second.json").write_bytes(msgspec.json.encode(settings))
        command = [sys.executable, "-m", "simulators.web.server", str(tmp_path / "second.json")]
        with subprocess.Popen(command, pass_fds=(listener.fileno(),), cwd=REPOSITORY) as process:
            viewer = first.viewer()
            viewer.target = Target("127.0.0.1", listener.getsockname()[1], Service.HTTPS)
            assert viewer.observe(first.attempt()).outcome == Outcome.ACKNOWLEDGED  # it serves: it has listened by now
            info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
            process.terminate()
    assert struct.unpack_from("=I", info, 28) == (7,)


def test_settings_without_a_certificate_are_refused_with_2(tmp_path: Path) -> None:
    settings = ServiceSettings(node="A", service="https", listen_fd=0, directory=str(tmp_path), site_directories=())
    (tmp_path / "settings.json").write_bytes(msgspec.json.encode(settings))
    ended = subprocess.run(
        [sys.executable, "-m", "simulators.web.server", str(tmp_path / "settings.json")],
        cwd=REPOSITORY, capture_output=True, check=False, timeout=20,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (2, b"certificate_file, key_file: expected two PEM files, found none\n")
