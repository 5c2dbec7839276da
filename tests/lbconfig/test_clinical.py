from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lbconfig.clinical import Load, ModalityLoad
from lbconfig.clinical_sources import BASES, REFERENCES
from lbconfig.site import Site
from lbconfig.site_file import SiteError, load_site

from .conftest import SITES, TODAY

BRIEF = (SITES / "brief.toml").read_text()
ONE_MODALITY = '[[load.modality]]\nname = "CT"\nshare = 1\nimages = 10\nimage_bytes = 5000\n'


def site_with(tmp_path: Path, text: str) -> Site:
    path = tmp_path / "hospital.toml"
    path.write_text(f"{BRIEF}\n{text}\n")
    return load_site(path, today=TODAY)


def numbers_of(load: Load) -> list[str]:
    """Name every number of a model as the table of sources does."""
    names = [name for name in load.__struct_fields__ if name not in ("modality", "line")]
    for entry in load.modality:
        names += [f"modality.{entry.name}.{number}" for number in ("share", "images", "image_bytes")]
    return names + [f"line.{line.name}" for line in load.line]


def test_every_number_of_the_model_has_exactly_one_source_or_reason() -> None:
    assert Counter(basis.key for basis in BASES) == Counter(numbers_of(Load()))


def test_every_source_is_a_reference_and_every_reference_is_used() -> None:
    named = {basis.source for basis in BASES if basis.source}
    told = " ".join(basis.text for basis in BASES)
    assert named <= set(REFERENCES)
    assert {name for name in REFERENCES if name not in named and name not in told} == set()


def test_every_source_or_reason_says_something_and_has_a_unit() -> None:
    assert [basis.key for basis in BASES if not basis.unit or len(basis.text) < 8] == []


def test_an_assumption_says_that_it_is_one() -> None:
    why = {basis.key: basis.why for basis in BASES}
    assert why["modality.DX.images"] == "assumption: two views of a chest or limb"
    assert why["modality.CT.images"] == "McDonald 2015: 679 images an exam in 2010"


def test_the_shares_of_all_exams_sum_to_one() -> None:
    assert sum(entry.share for entry in Load().modality if entry.part_of is None) == pytest.approx(1.0, abs=1e-9)


def test_the_hourly_factors_have_the_peak_hours_share_that_the_model_has() -> None:
    assert 1 / sum(Load().hourly_factors) == pytest.approx(Load().peak_hour_share, rel=0.01)


def test_a_breast_tomosynthesis_study_has_one_to_two_gigabytes() -> None:
    (tomosynthesis,) = [entry for entry in Load().modality if entry.name == "DBT"]
    assert 1e9 <= tomosynthesis.images * tomosynthesis.image_bytes <= 2e9


def test_the_daily_adt_messages_are_those_that_its_reason_names() -> None:
    load = Load()
    a_day = load.exams_per_year * load.encounters_per_exam * load.adt_per_encounter / load.working_days
    assert round(a_day, -2) == 48_600


def test_a_compressed_image_is_smaller_even_and_never_below_the_smallest() -> None:
    load = Load(compression=2.5)
    wide = ModalityLoad(name="CT", share=1, images=1, image_bytes=526_006)
    small = ModalityLoad(name="PT", share=1, images=1, image_bytes=5_000)
    assert (load.wire_bytes(wide), load.wire_bytes(small), Load().wire_bytes(wide)) == (210_402, 4_096, 526_006)


def test_an_image_above_the_largest_is_not_sent_and_one_of_just_that_size_is() -> None:
    large = ModalityLoad(name="DBT", share=1, images=4, image_bytes=450_000_000)
    assert not Load(largest_sent_image_bytes=449_999_998).is_sent(large)
    assert Load(largest_sent_image_bytes=450_000_000).is_sent(large)
    assert Load(largest_sent_image_bytes=225_000_000, compression=2).is_sent(large)


def test_the_brief_keeps_every_default(brief: Site) -> None:
    assert brief.load == Load()


def test_a_site_overrides_one_number_and_keeps_the_others(tmp_path: Path) -> None:
    site = site_with(tmp_path, "[load]\nexams_per_year = 120_000\nworklist_interval_s = 30")
    assert site.load == Load(exams_per_year=120_000, worklist_interval_s=30)


def test_modalities_of_a_site_replace_those_of_the_model(tmp_path: Path) -> None:
    site = site_with(tmp_path, ONE_MODALITY)
    assert site.load.modality == (ModalityLoad(name="CT", share=1, images=10, image_bytes=5000),)


WRONG = {
    "a number that does not exist": (
        "[load]\nexams_per_yaer = 5",
        'load.exams_per_yaer: expected a known key (perhaps exams_per_year), found "exams_per_yaer"',
    ),
    "no exams": ("[load]\nexams_per_year = 0", "load.exams_per_year: expected 1 to 1000000000, found 0"),
    "a percentage": ("[load]\npeak_hour_share = 10.1", "load.peak_hour_share: expected 0.0417 to 1, found 10.1"),
    "a day of one hour": (
        "[load]\nhourly_factors = [1.0]",
        "load.hourly_factors: expected an array of 24, found an array of 1",
    ),
    "a day without a peak hour": (
        "[load]\nhourly_factors = [" + "0.5, " * 24 + "]",
        "load.hourly_factors: expected 1.0 in the peak hour, and nothing above it, found 0.5 at most",
    ),
    "a hospital without modalities": (
        "[load]\nmodality = []",
        "load.modality: expected an array of at least 1, found an array of 0",
    ),
    "shares that leave exams out": (
        ONE_MODALITY.replace("share = 1", "share = 0.5"),
        "load.modality: expected shares that sum to 1, but for entries with part_of, found 0.5",
    ),
    "an odd number of bytes": (
        ONE_MODALITY.replace("5000", "5001"),
        "load.modality[0].image_bytes: expected an even number (PS3.5 7.1.1), found 5001",
    ),
    "a part of an exam that nobody does": (
        ONE_MODALITY + ONE_MODALITY.replace('"CT"', '"SR"\npart_of = "MR"'),
        'load.modality[1].part_of: expected one of the exams CT, found "MR"',
    ),
    "a modality twice": (
        ONE_MODALITY + ONE_MODALITY.replace('"CT"', '"CT"\npart_of = "CT"'),
        "load.modality[1].name: expected a name that no other entry has, found CT, as in load.modality[0].name",
    ),
    "messages without a line": (
        '[[load.line]]\nname = "A"\ncarries = ["adt", "orders", "scheduling"]',
        'load.line: expected exactly one line that carries "results", found 0',
    ),
    "messages with two lines": (
        '[[load.line]]\nname = "A"\ncarries = ["adt", "orders", "scheduling", "results"]\n'
        '[[load.line]]\nname = "B"\ncarries = ["adt"]',
        'load.line: expected exactly one line that carries "adt", found 2',
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_load_is_refused_with_key_expected_and_found(wrong: str, tmp_path: Path) -> None:
    text, message = WRONG[wrong]
    with pytest.raises(SiteError) as caught:
        site_with(tmp_path, text)
    assert str(caught.value) == f"hospital.toml: {message}"
