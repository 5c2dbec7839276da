from __future__ import annotations

import io
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from lbconfig.clinical import Load, ModalityLoad
from lbconfig.clinical_sources import BASES, REFERENCES
from scenarios.load.model_table import NOT_SENT, Row, model_table, number_text, print_model

PAGE = Path(__file__).parents[3] / "docs" / "load-model.md"
PAGE_ROW = re.compile(r"^\| (?P<name>[^|]+) \| (?P<value>[0-9.,]+) \| (?P<unit>[^|]*) \| [^|]+ \|$", re.MULTILINE)


def inputs_of(load: Load) -> dict[str, Row]:
    return {row.name: row for row in model_table(load) if row.origin != "derived"}


def figures_of(load: Load) -> dict[str, Row]:
    return {row.name: row for row in model_table(load) if row.origin == "derived"}


def printed(load: Load) -> str:
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    print_model(load, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_has_one_row_for_each_number_of_the_model() -> None:
    assert len(inputs_of(Load())) == len(BASES)


def test_no_name_stands_in_the_table_twice() -> None:
    names = [(row.origin == "derived", row.name) for row in model_table(Load())]
    assert len(names) == len(set(names))


def test_a_default_tells_its_source_and_an_assumption_that_it_is_one() -> None:
    rows = inputs_of(Load())
    assert (rows["CT images"].origin, rows["CT images"].why) == ("source", "McDonald 2015: 679 images an exam in 2010")
    assert (rows["DX images"].origin, rows["DX images"].why) == ("assumption", "assumption: two views of a chest or limb")


def test_a_number_that_was_set_says_so_and_names_the_default() -> None:
    row = inputs_of(Load(exams_per_year=120_000))["exams per year"]
    assert (row.value, row.origin) == (120_000, "site")
    assert row.why == "the site, or an option of this run; by default 500,000"


def test_a_modality_of_the_sites_own_is_the_sites() -> None:
    own = ModalityLoad(name="OPT", share=1, images=4, image_bytes=8192)
    rows = inputs_of(Load(modality=(own,)))
    assert {rows[name].origin for name in ("OPT share", "OPT images", "OPT image bytes")} == {"site"}
    assert rows["OPT image bytes"].unit == "bytes"


def test_what_load_runs_do_not_make_is_marked() -> None:
    unsent = [row.name for row in model_table(Load()) if not row.sent]
    assert "retrieval, peak" in unsent
    assert "ingest, peak" not in unsent
    assert "DBT: a study" not in unsent


def test_what_is_too_large_to_send_is_marked_and_still_counted() -> None:
    load = Load(largest_sent_image_bytes=100_000_000)
    figures = figures_of(load)
    assert not figures["DBT: a study"].sent
    assert figures["ingest, peak"].value == figures_of(Load())["ingest, peak"].value
    assert figures["ingest that load runs send, peak"].why == "the same without DBT"


def test_a_line_says_whether_its_bound_holds_at_the_peak_and_at_half_a_load_more() -> None:
    def verdict(exams_per_year: int) -> str:
        return figures_of(Load(exams_per_year=exams_per_year))["line ADT, at most"].why.partition("; ")[2]

    assert verdict(500_000) == "holds"
    assert verdict(5_000_000) == "is exceeded at 1.5 x peak: messages queue in the engine"
    assert verdict(8_000_000) == "is exceeded by the peak itself: messages queue in the engine"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (12, "12"), (190.14, "190"), (1_234_567.8, "1,234,568"), (0.05501, "0.055"), (8.1949, "8.19"),
        (0.000495, "0.000495"), (math.inf, "never"), ("adt, 1", "adt, 1"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits_that_count_and_no_exponent(value: float | str, text: str) -> None:
    assert number_text(value) == text


def test_the_model_is_printed_whole_with_its_references() -> None:
    text = printed(Load(largest_sent_image_bytes=100_000_000))
    assert "exams per year" in text
    assert "500,000" in text
    assert "retrieval / ingest" in text
    assert "The peak hour by modality" in text
    assert NOT_SENT in text
    assert [name for name in REFERENCES if f"{name}: " not in text] == []


def test_the_page_about_the_model_reckons_its_example_right() -> None:
    figures = figures_of(Load())
    example = PAGE.read_text().partition("## A worked example")[2]
    shown = {match["name"]: (match["value"], match["unit"]) for match in PAGE_ROW.finditer(example)}
    assert len(shown) >= 30
    assert shown == {name: (number_text(figures[name].value), figures[name].unit) for name in shown}


def test_the_page_about_the_model_has_every_number_with_its_default_and_unit() -> None:
    units = {basis.key: basis.unit for basis in BASES}
    shown = {match["name"]: (match["value"], match["unit"]) for match in PAGE_ROW.finditer(PAGE.read_text())}
    scalars = {name: getattr(Load(), name) for name in Load().__struct_fields__ if name not in ("modality", "line")}
    expected = {f"`{name}`": (number_text(value), units[name]) for name, value in scalars.items() if name != "hourly_factors"}
    assert {name: shown.get(name) for name in expected} == expected


def test_the_page_about_the_model_has_every_modality_with_its_defaults() -> None:
    page = PAGE.read_text()
    rows = [(entry.name, entry.part_of, entry.share, entry.images, entry.image_bytes) for entry in Load().modality]
    lines = [
        f"| {name}{f', with each {whole}' if whole else ''} | {number_text(share)} | {images} | {size_bytes:,} |"
        for name, whole, share, images, size_bytes in rows
    ]
    assert [line for line in lines if line not in page] == []
