from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from simulators.dicom.matching import Range
from simulators.dicom.order_book import OrderBook
from simulators.node_store import NodeStore, Order, database_path

from .conftest import ORDER


@pytest.fixture
def book(tmp_path: Path) -> Iterator[OrderBook]:
    book = OrderBook((tmp_path / "one", tmp_path / "two"))
    yield book
    book.close()


def orders(book: OrderBook, *, dates: Range | None = None, **exact: str) -> set[Order]:
    book.look()
    return set(book.candidates(exact, dates))


def put(directory: Path, *rows: Order) -> None:
    store = NodeStore(directory, "hl7")
    store.put(*rows)
    store.close()


def test_an_order_is_there_at_the_first_look_after_its_commit(book: OrderBook, tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "one", "hl7")
    for number in range(5):
        store.put(ORDER._replace(accession=f"ACC{number}"))
        assert {order.accession for order in orders(book)} == {f"ACC{known}" for known in range(number + 1)}
    store.close()


def test_a_site_without_databases_has_no_orders_until_one_is_made(book: OrderBook, tmp_path: Path) -> None:
    assert orders(book) == set()
    (tmp_path / "two").mkdir()
    sqlite3.connect(database_path(tmp_path / "two", "hl7")).close()
    assert orders(book) == set()
    put(tmp_path / "two", ORDER)
    assert orders(book) == {ORDER}


@pytest.mark.parametrize("replaced", ["ACC0", "ACC1", "ACC2"])
def test_a_replaced_row_is_read_again_wherever_it_stands(book: OrderBook, tmp_path: Path, replaced: str) -> None:
    put(tmp_path / "one", *(ORDER._replace(accession=f"ACC{number}") for number in range(3)))
    assert len(orders(book)) == 3
    for status, updated_ns in (("SC", 2), ("CA", 3)):
        newest = ORDER._replace(accession=replaced, status=status, updated_ns=updated_ns)
        put(tmp_path / "one", newest)
        assert newest in orders(book)
        assert len(orders(book)) == 3


@pytest.mark.parametrize("directories", [("one", "two"), ("two", "one")])
def test_the_newest_state_counts_whichever_node_has_it(book: OrderBook, tmp_path: Path, directories: tuple[str, str]) -> None:
    newest = ORDER._replace(modality="MR", updated_ns=2)
    put(tmp_path / directories[0], newest)
    put(tmp_path / directories[1], ORDER)
    assert orders(book) == {newest}


def test_an_order_that_changed_is_found_by_what_it_is_now_alone(book: OrderBook, tmp_path: Path) -> None:
    put(tmp_path / "one", ORDER)
    assert orders(book, modality="CT") == {ORDER}
    moved = ORDER._replace(modality="MR", start_date="20260801", updated_ns=2)
    put(tmp_path / "two", moved)
    assert (orders(book, modality="CT"), orders(book, modality="MR")) == (set(), {moved})
    assert orders(book, dates=Range("20260701", "20260731")) == set()
    assert orders(book, dates=Range("20260801", "")) == {moved}


def test_candidates_are_narrowed_by_the_condition_that_narrows_most(book: OrderBook, tmp_path: Path) -> None:
    others = [ORDER._replace(accession=f"ACC{number}", patient_id=f"PID{number}") for number in range(3)]
    put(tmp_path / "one", *others)
    assert orders(book, modality="CT", patient_id="PID1") == {others[1]}


def test_the_version_changes_with_the_orders_and_stays_without(book: OrderBook, tmp_path: Path) -> None:
    orders(book)
    before = book.version
    put(tmp_path / "one", ORDER)
    orders(book)
    after = book.version
    orders(book)
    assert (after != before, book.version == after) == (True, True)


def test_a_database_that_cannot_be_read_is_read_at_the_next_look(book: OrderBook, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    path = database_path(tmp_path / "one", "hl7")
    path.write_bytes(b"no database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        book.look()
    path.unlink()
    put(tmp_path / "one", ORDER)
    assert orders(book) == {ORDER}


def test_an_accession_number_is_found_with_and_without_blanks_around_it(book: OrderBook, tmp_path: Path) -> None:
    plain, padded = ORDER._replace(accession="ACC7"), ORDER._replace(accession=" ACC7 ")
    put(tmp_path / "one", plain, padded, ORDER._replace(accession="ACC8"))
    assert orders(book, accession="ACC7") == {plain, padded}
    assert orders(book, accession="ACC9") == set()


@pytest.fixture
def small_book(tmp_path: Path) -> Iterator[OrderBook]:
    """Make a book that holds five rows in memory."""
    book = OrderBook((tmp_path / "one", tmp_path / "two"), most_held=5)
    yield book
    book.close()


def test_a_book_holds_no_more_than_its_bound_and_finds_all_the_same(small_book: OrderBook, tmp_path: Path) -> None:
    placed = [ORDER._replace(accession=f"ACC{number}", patient_id=f"PID{number}", updated_ns=number) for number in range(40)]
    for number, order in enumerate(placed):
        put(tmp_path / ("one", "two")[number % 2], order)
        small_book.look()
    assert len(small_book) == 5
    assert orders(small_book) == set(placed)
    assert [orders(small_book, patient_id=order.patient_id) for order in placed] == [{order} for order in placed]
    assert [orders(small_book, accession=order.accession) for order in placed] == [{order} for order in placed]
    assert orders(small_book, station_ae="CT_EAST", modality="CT") == set(placed)
    assert orders(small_book, station_ae="CT_EAST", modality="MR") == set()


def test_dates_and_blanks_count_beyond_memory_as_within_it(small_book: OrderBook, tmp_path: Path) -> None:
    placed = [ORDER._replace(accession=f" ACC{day} ", start_date=f"202607{day:02}") for day in range(1, 31)]
    put(tmp_path / "one", *placed)
    assert orders(small_book, dates=Range("20260705", "20260728")) == set(placed[4:28])
    assert orders(small_book, dates=Range("20260705", "")) == set(placed[4:])
    assert orders(small_book, accession="ACC7") == {placed[6]}


def test_an_order_beyond_memory_that_changed_on_another_node_is_found_by_what_it_is_now(
    small_book: OrderBook, tmp_path: Path
) -> None:
    put(tmp_path / "one", ORDER)
    small_book.look()
    moved = ORDER._replace(modality="MR", updated_ns=2)
    put(tmp_path / "two", moved)
    small_book.look()
    put(tmp_path / "one", *(ORDER._replace(accession=f"ACC{number}", modality="US") for number in range(10)))
    assert (orders(small_book, modality="CT"), orders(small_book, modality="MR")) == (set(), {moved})


def test_an_older_state_that_comes_late_hides_no_newer_one_beyond_memory(small_book: OrderBook, tmp_path: Path) -> None:
    newest = ORDER._replace(modality="MR", updated_ns=2)
    put(tmp_path / "one", newest, *(ORDER._replace(accession=f"ACC{number}", modality="US") for number in range(10)))
    small_book.look()
    put(tmp_path / "two", ORDER)
    assert (orders(small_book, modality="CT"), orders(small_book, modality="MR")) == (set(), {newest})


@pytest.mark.parametrize("seed", range(8))
def test_a_book_with_a_bound_answers_as_one_without(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    book = OrderBook((tmp_path / "one", tmp_path / "two"), most_held=chance.randint(1, 12))
    newest: dict[str, Order] = {}
    for number in range(150):
        node, late_ns = chance.choice((("one", 0), ("two", 121)))  # the clock of the second is behind
        order = ORDER._replace(
            accession=f"ACC{chance.randint(1, 30)}", modality=chance.choice(("CT", "MR")),
            station_ae=chance.choice(("EAST", "WEST")), updated_ns=2 * number - late_ns,
        )  # fmt: skip
        put(tmp_path / node, order)
        known = newest.get(order.accession)
        if known is None or known.updated_ns < order.updated_ns:
            newest[order.accession] = order
        found = orders(book, modality="CT", station_ae="EAST")
        wanted = {one for one in newest.values() if (one.modality, one.station_ae) == ("CT", "EAST")}
        assert {one for one in found if (one.modality, one.station_ae) == ("CT", "EAST")} == wanted
    book.close()


def test_an_order_that_changes_while_it_is_asked_for_is_never_missed(small_book: OrderBook, tmp_path: Path) -> None:
    put(tmp_path / "one", *(ORDER._replace(accession=f"ACC{number}") for number in range(20)))

    def change() -> None:
        store = NodeStore(tmp_path / "one", "hl7")
        for number in range(600):
            store.put(ORDER._replace(accession=f"ACC{number % 20}", updated_ns=number + 2))
        store.close()

    with ThreadPoolExecutor(1) as writer:
        changing = writer.submit(change)
        while not changing.done():
            assert len(orders(small_book, station_ae="CT_EAST")) == 20
        changing.result()
