"""A Modality Worklist query (PS3.4, annex K): which orders it asks for, and what it is answered for each of them.

Pure: an identifier in, a test and response identifiers out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from ..node_store import Order
from . import matching
from .order_book import INDEXED
from .worklist_answer import TEXT_VRS, AnswerLayout, ReturnKey

STEP_SEQUENCE = 0x00400100
_CHARACTER_SET = 0x00080005
_STEP_DATE, _STEP_TIME = 0x00400002, 0x00400003
_KEYS = {  # attributes of the identifier itself, as fields of Order
    0x00080050: "accession",
    0x00100010: "patient_name",
    0x00100020: "patient_id",
    0x00100030: "birth_date",
    0x00100040: "sex",
    0x0020000D: "study_uid",
    0x00401001: "procedure_id",
    0x00321060: "description",
}
_STEP_KEYS = {  # attributes inside the Scheduled Procedure Step Sequence
    0x00080060: "modality",
    0x00400001: "station_ae",
    _STEP_DATE: "start_date",
    _STEP_TIME: "start_time",
    0x00400009: "step_id",
    0x00400007: "description",
}
_NOT_TO_BE_DONE = ("CA", "DC")  # cancelled, discontinued
_Item = Callable[[Order], DataElement]


class QueryRefused(Exception):
    """An identifier that is no valid worklist query."""


class Query:
    """A worklist query, compiled.

    Parameters
    ----------
    identifier : Dataset
        The identifier of the C-FIND request.

    Raises
    ------
    QueryRefused
        When it has no keys, more than one item in the Scheduled Procedure Step Sequence, or a key that cannot be one: by its
        value, or by its VR.

    Attributes
    ----------
    has_unsupported_keys : bool
        Whether it wants matching on what is not known here.
    exact : dict of str to str
        Values that fields of every matching order have, but for blanks around them.
    dates : Range or None
        Where the start date of every matching order lies.
    return_keys : (tuple of ReturnKey, tuple of ReturnKey or None)
        What is answered, of the identifier and of its step: equal ones are answered alike.
    """

    def __init__(self, identifier: Dataset) -> None:
        keys = list(_keys_of(identifier))
        if not keys:
            raise QueryRefused("expected keys, found an empty identifier")
        self._step = _step_of(identifier)
        self._wanted = [*_values(keys, _KEYS), *_values(_keys_of(self._step or Dataset()), _STEP_KEYS)]
        self._values = dict(self._wanted)  # for the fields that one key alone can name
        self.has_unsupported_keys = any(_is_unsupported(key, _KEYS) for key in keys) or any(
            _is_unsupported(key, _STEP_KEYS) for key in self._step or ()
        )
        try:
            self._tests = list(self._compiled())
            self._moment = matching.moment_test(self._values.get("start_date", ""), self._values.get("start_time", ""))
            self.dates = matching.date_range(self._values.get("start_date", ""))
        except matching.MatchingError as error:
            raise QueryRefused(str(error)) from error
        exact = {field: self._values.get(field, "").strip() for field in INDEXED}
        self.exact = {field: key for field, key in exact.items() if key and not set(key) & set("*?")}
        self._answers = [_answer_of(key, _KEYS) for key in keys if key.tag != STEP_SEQUENCE]
        step = None if self._step is None else _return_keys(_keys_of(self._step), _STEP_KEYS)
        self.return_keys = _return_keys(keys, _KEYS), step

    @property
    def patient_id(self) -> str:
        """The key of the patient id, wildcards included; empty when it is universal."""
        return self._values.get("patient_id", "").strip()

    def matches(self, order: Order) -> bool:
        """Say whether an order belongs to the answer. Cancelled and discontinued ones never do."""
        return (
            order.status not in _NOT_TO_BE_DONE
            and all(test(getattr(order, field)) for field, test in self._tests)
            and self._moment(order.start_date, order.start_time)
        )

    def answer(self, order: Order) -> Dataset:
        """Return the response identifier of an order: the keys asked for, in UTF-8, empty where nothing is known."""
        found = Dataset()
        found.SpecificCharacterSet = "ISO_IR 192"
        for item in self._answers:
            found.add(item(order))
        if self._step is not None:
            found.add_new(STEP_SEQUENCE, "SQ", [_step_answer(self._step, order)])
        return found

    def layout(self, syntax: UID) -> AnswerLayout:
        """Return how answers are written in a transfer syntax: `answer`, encoded, at a fraction of the cost."""
        return AnswerLayout(*self.return_keys, syntax)

    def _compiled(self) -> Iterator[tuple[str, matching.Test]]:
        for field, key in self._wanted:
            if field in ("start_date", "start_time"):
                continue  # these belong together: moment_test
            if field == "patient_name":
                yield field, matching.name_test(key)
            elif field == "study_uid":
                yield field, matching.uid_test(key)
            elif field == "birth_date":
                yield field, matching.date_test(key)
            else:
                yield field, matching.text_test(key)


def _keys_of(identifier: Dataset) -> Iterator[DataElement]:
    for element in identifier:
        if element.tag.element != 0 and element.tag != _CHARACTER_SET:  # not group lengths
            yield element


def _step_of(identifier: Dataset) -> Dataset | None:
    """Return the item of the Scheduled Procedure Step Sequence; with all known attributes when it was sent empty."""
    if STEP_SEQUENCE not in identifier:
        return None
    items = identifier[STEP_SEQUENCE].value or []
    if len(items) > 1:
        raise QueryRefused(f"Scheduled Procedure Step Sequence: expected one item, found {len(items)}")
    if items and len(items[0]):
        step: Dataset = items[0]
        return step
    everything = Dataset()
    for tag in _STEP_KEYS:
        everything.add_new(tag, _vr_of_step(tag), None)
    return everything


def _vr_of_step(tag: int) -> str:
    return {0x00080060: "CS", 0x00400001: "AE", _STEP_DATE: "DA", _STEP_TIME: "TM", 0x00400009: "SH"}.get(tag, "LO")


def _return_keys(keys: Iterable[DataElement], fields: dict[int, str]) -> tuple[ReturnKey, ...]:
    found = tuple(ReturnKey(int(key.tag), str(key.VR), fields.get(int(key.tag))) for key in keys)
    for key in found:
        if key.field is not None and key.vr not in TEXT_VRS:
            raise QueryRefused(f"({key.tag >> 16:04X},{key.tag & 0xFFFF:04X}): expected a text, found VR {key.vr}")
    return found


def _values(keys: Iterable[DataElement], fields: dict[int, str]) -> Iterator[tuple[str, str]]:
    for key in keys:
        field = fields.get(int(key.tag))
        if field and _text(key).strip():
            yield field, _text(key)


def _text(key: DataElement) -> str:
    if key.value is None:
        return ""
    return "\\".join(map(str, key.value)) if key.VM > 1 else str(key.value)


def _is_unsupported(key: DataElement, fields: dict[int, str]) -> bool:
    """Say whether a key wants matching on what is not known here (PS3.4, C.4.1.1.4: answered 0xFF01)."""
    if int(key.tag) in fields or key.tag in (STEP_SEQUENCE, _CHARACTER_SET) or key.tag.element == 0:
        return False
    return any(len(item) for item in key.value or ()) if key.VR == "SQ" else bool(_text(key).strip())


def _answer_of(key: DataElement, fields: dict[int, str]) -> _Item:
    field = fields.get(int(key.tag))
    if field is not None:
        return lambda order: DataElement(key.tag, key.VR, getattr(order, field))
    empty = Sequence() if key.VR == "SQ" else None
    return lambda _: DataElement(key.tag, key.VR, empty)


def _step_answer(step: Dataset, order: Order) -> Dataset:
    found = Dataset()
    for key in _keys_of(step):
        found.add(_answer_of(key, _STEP_KEYS)(order))
    return found
