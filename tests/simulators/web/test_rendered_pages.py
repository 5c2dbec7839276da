"""Pages are rendered once, and never shown when they are out of date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response

from simulators.node_store import NodeStore, Note, Result
from simulators.operations import Kind
from simulators.web.rendered_pages import PageKey, RenderedPages

if TYPE_CHECKING:
    from simulators.node_store import Instance
    from tests.simulators.web.conftest import Images, StartNode

KEY = PageKey(b"/studies?", "me")


def test_a_version_changes_with_the_databases_that_were_named_and_no_others(tmp_path: Path) -> None:
    pages = RenderedPages([tmp_path / "a", tmp_path / "b"])
    none_yet = pages.version("https")
    stores = [NodeStore(tmp_path / node, "https") for node in "ab"]
    other = NodeStore(tmp_path / "a", "hl7")
    versions = [none_yet, pages.version("https")]
    for store in stores:
        store.put(Note("n", "1.2", "me", "text", 1))
        versions.append(pages.version("https"))
    assert len(set(versions)) == 4
    other.put(Result("A", "", "P", "F", "text", 1))
    assert pages.version("https") == versions[-1]
    for store in (*stores, other):
        store.close()


def test_a_page_is_found_at_its_version_alone() -> None:
    pages, page = RenderedPages([]), Response(b"page")
    pages.put(KEY, (1, 2), page)
    assert pages.get(KEY, (1, 2)) is page
    assert pages.get(KEY, (1, 3)) is None
    assert pages.get(KEY._replace(user="you"), (1, 2)) is None


def test_the_oldest_page_makes_room_and_a_very_long_one_is_not_kept() -> None:
    pages = RenderedPages([])
    keys = [KEY._replace(target=b"/%d" % number) for number in range(257)]
    for key in keys:
        pages.put(key, (), Response(b"page"))
    pages.put(KEY, (), Response(bytes(70_000)))
    assert [pages.get(key, ()) is None for key in (keys[0], keys[1], keys[256], KEY)] == [True, False, False, True]


def test_what_any_node_took_is_on_the_next_page_that_is_asked_for(
    start_node: StartNode, images: Images, image: Instance, tmp_path: Path
) -> None:
    node = start_node("MACH7-A")
    viewer = node.logged_in()
    seen = []
    for number, where in enumerate(("MACH7-A", "MACH7-B", "MACH7-B", "MACH7-A")):
        images.put(where, image._replace(sop_uid=f"2.25.1{number}", updated_ns=number))
        for _ in range(2):
            (study,) = viewer.studies(node.attempt())[1]
            seen.append((study.images, viewer.study("2.25.10", node.attempt())[1].images))
    assert seen == [(1, 1), (1, 1), (2, 2), (2, 2), (3, 3), (3, 3), (4, 4), (4, 4)]
    hl7 = NodeStore(tmp_path / "MACH7-B", "hl7")
    hl7.put(Result("A-1", "", "P-1", "F", "No fracture.", 5_000))
    hl7.close()
    viewer.note("2.25.10", "Called.", node.attempt(Kind.NOTE))
    _, page = viewer.study("2.25.10", node.attempt())
    assert (page.results, [note.text for note in page.notes]) == (("No fracture.",), ["Called."])


def test_a_page_is_nobody_elses_after_a_logout(start_node: StartNode, images: Images, image: Instance) -> None:
    images.put("MACH7-A", image)
    node = start_node("MACH7-A")
    viewer = node.logged_in()
    assert viewer.study("2.25.10", node.attempt())[0].status == 200
    viewer.logout(node.attempt())
    assert viewer.study("2.25.10", node.attempt())[0].status == 303
