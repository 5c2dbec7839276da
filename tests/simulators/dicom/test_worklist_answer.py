"""Answers to worklist queries as they are written by hand, against pydicom's; the conformance suite asks the real SCP."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, reject
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import encode

from simulators.dicom.find_handler import WORKLIST_SYNTAXES
from simulators.dicom.worklist_query import Query, QueryRefused
from simulators.node_store import Order

KEYS = (
    (0x00080050, "SH"), (0x00100010, "PN"), (0x00100020, "LO"), (0x00100030, "DA"), (0x00100040, "CS"), (0x0020000D, "UI"),
    (0x00401001, "SH"), (0x00321060, "LO"), (0x00321060, "UT"), (0x00080090, "PN"), (0x00081110, "SQ"), (0x00101030, "DS"),
    (0x00280010, "US"), (0x00420011, "OB"), (0x00091001, "UN"), (0x00104000, "LT"), (0x00080005, "CS"),
)  # fmt: skip
STEP_KEYS = (
    (0x00080060, "CS"), (0x00400001, "AE"), (0x00400002, "DA"), (0x00400003, "TM"), (0x00400009, "SH"), (0x00400007, "LO"),
    (0x00400006, "PN"), (0x00400010, "SH"), (0x00400008, "SQ"),
)  # fmt: skip
LETTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\\^=")
TEXTS = st.text(LETTERS, max_size=20).map(str.strip)
NAMES = st.lists(st.lists(TEXTS, max_size=5).map("^".join), max_size=3).map("=".join)
ORDERS = st.builds(
    Order, accession=TEXTS, patient_id=TEXTS, patient_name=NAMES, birth_date=st.sampled_from(("", "19610214")),
    sex=st.sampled_from(("", "F", "O")), modality=st.sampled_from(("CT", "MG")),
    station_ae=st.sampled_from(("", "CT01", "CT1")), start_date=st.just("20261127"),
    start_time=st.sampled_from(("0815", "081502.5")), step_id=TEXTS, procedure_id=TEXTS,
    description=TEXTS | st.sampled_from(("x" * 65_534, "€" * 21_845)), study_uid=st.sampled_from(("", "1.2.3", "1.2.34")),
    status=st.just("SC"), updated_ns=st.just(1),
)  # fmt: skip


def data_set(*keys: tuple[int, str]) -> Dataset:
    found = Dataset()
    for tag, vr in keys:
        found.add_new(tag, vr, None)
    return found


@st.composite
def identifiers(draw: st.DrawFn) -> Dataset:
    found = data_set(*draw(st.lists(st.sampled_from(KEYS), min_size=1)))
    step = draw(st.none() | st.lists(st.sampled_from(STEP_KEYS)))
    if step is not None:
        found.add_new(0x00400100, "SQ", [data_set(*step)] if step else [])
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of values that HL7 allows and a VR does not
@given(identifier=identifiers(), order=ORDERS, syntax=st.sampled_from(WORKLIST_SYNTAXES).map(UID))
def test_an_answer_has_the_bytes_that_pydicom_gives_it(identifier: Dataset, order: Order, syntax: UID) -> None:
    try:
        query = Query(identifier)
    except QueryRefused:
        reject()  # nothing but a character set
    expected = encode(query.answer(order), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    assert query.layout(syntax).encode(order) == expected


def test_a_key_that_is_no_text_by_its_own_words_is_refused() -> None:
    in_step = Dataset()
    in_step.add_new(0x00400100, "SQ", [data_set((0x00400001, "OB"))])
    with pytest.raises(QueryRefused, match=r"\(0010,0010\): expected a text, found VR US"):
        Query(data_set((0x00100010, "US")))
    with pytest.raises(QueryRefused, match=r"\(0040,0001\): expected a text, found VR OB"):
        Query(in_step)
