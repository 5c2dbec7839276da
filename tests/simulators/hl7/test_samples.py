from datetime import datetime
from pathlib import Path

import pytest
from hl7apy.parser import parse_message  # type: ignore[import-untyped]

from simulators.hl7.content import content_of
from simulators.hl7.message import Message
from simulators.hl7.own_messages import load_messages
from simulators.hl7.samples import MESSAGE_TYPES, OrderDetails, SampleError, SamplePatient, Template, result_text
from simulators.node_store import Order, Patient, Result
from simulators.operations import Identity, Kind

MESSAGE = Identity(7, Kind.MESSAGE, 1, 9)
PATIENT = SamplePatient(Identity(7, Kind.PATIENT, 1, 2), "PREFLIGHT^TEST", "19700101", "F")
PRIOR = Identity(7, Kind.PATIENT, 1, 3)
ORDER = OrderDetails(
    accession=Identity(7, Kind.ORDER, 1, 4).accession, study_uid=Identity(7, Kind.STUDY, 1, 5).uid, modality="MR",
    station_ae="MR_ROOM2", start_date="20260203", start_time="143000", procedure="Knee | left",
)  # fmt: skip
EXPECTED_ORDER = Order(
    ORDER.accession, PATIENT.identity.code, "PREFLIGHT^TEST", "19700101", "F", "MR", "MR_ROOM2", "20260203", "143000",
    ORDER.accession, ORDER.accession, "Knee | left", ORDER.study_uid, "NW", 1,
)  # fmt: skip
EXPECTED_PATIENT = Patient(PATIENT.identity.code, "PREFLIGHT^TEST", "19700101", "F", "", 1)


class KnownOrders:
    """A site that knows the orders given."""

    def __init__(self, *orders: Order) -> None:
        self._orders = orders

    def order(self, accession: str) -> Order | None:
        """Return the order, if it was given."""
        return next((order for order in self._orders if order.accession == accession), None)

    def orders_of(self, patient_id: str) -> list[Order]:
        """Return the orders that were given of a patient."""
        return [order for order in self._orders if order.patient_id == patient_id]

    def patient(self, _: str) -> Patient | None:
        """Know nobody."""
        return None


def sample(message_type: str, order: OrderDetails = ORDER, text: str = "no finding\nat all") -> Message:
    when = datetime(2026, 1, 1)
    return Message(Template(message_type).message(MESSAGE, PATIENT, order, text=text, prior=PRIOR, when=when))


@pytest.mark.parametrize("message_type", MESSAGE_TYPES)
def test_hl7apy_reads_every_sample_and_finds_the_same_identities(message_type: str) -> None:
    message = sample(message_type, text="no finding")  # hl7apy escapes the escape of a line end once more
    parsed = parse_message(message.raw.decode(), find_groups=False)
    assert parsed.msh.msh_10.value == MESSAGE.code
    assert parsed.pid.pid_3.pid_3_1.value == PATIENT.identity.code
    assert parsed.to_er7().strip("\r") == message.raw.decode().strip("\r")


@pytest.mark.parametrize("message_type", ["ADT^A01", "ADT^A04", "ADT^A08", "ADT^A40", "OMI^O23", "ORU^R01", "SIU^S12"])
def test_hl7apy_finds_the_samples_valid(message_type: str) -> None:
    assert parse_message(sample(message_type).raw.decode()).validate()


@pytest.mark.parametrize("message_type", ["ORM^O01", "OMI^O23"])
def test_an_order_is_understood_as_it_was_meant(message_type: str) -> None:
    assert content_of(sample(message_type), KnownOrders(), 1).rows == (EXPECTED_PATIENT, EXPECTED_ORDER)


@pytest.mark.parametrize("message_type", ["ADT^A01", "ADT^A04", "ADT^A08"])
def test_an_admission_is_understood_as_it_was_meant(message_type: str) -> None:
    content = content_of(sample(message_type), KnownOrders(), 1)
    assert content == (PATIENT.identity.code, (EXPECTED_PATIENT,))


def test_a_result_is_understood_as_it_was_meant() -> None:
    result = Result(ORDER.accession, ORDER.study_uid, PATIENT.identity.code, "F", "no finding\nat all", 1)
    assert content_of(sample("ORU^R01"), KnownOrders(), 1).rows == (result,)


def test_a_merge_moves_the_orders_to_the_surviving_patient() -> None:
    before = EXPECTED_ORDER._replace(patient_id=PRIOR.code, patient_name="PREFLIGHT^OLD", updated_ns=0)
    rows = content_of(sample("ADT^A40"), KnownOrders(before), 1).rows
    assert rows == (EXPECTED_PATIENT, Patient(PRIOR.code, "", "", "", PATIENT.identity.code, 1), EXPECTED_ORDER)


def test_an_appointment_moves_a_known_order_in_time() -> None:
    before = EXPECTED_ORDER._replace(start_date="20260101", start_time="080000", updated_ns=0)
    assert content_of(sample("SIU^S12"), KnownOrders(before), 1).rows == (EXPECTED_PATIENT, EXPECTED_ORDER)


def test_an_appointment_without_an_order_tells_of_the_patient_alone() -> None:
    assert content_of(sample("SIU^S12"), KnownOrders(), 1).rows == (EXPECTED_PATIENT,)


def test_a_cancelled_order_keeps_what_its_cancellation_does_not_mention() -> None:
    cancelled = OrderDetails(accession=ORDER.accession, study_uid="", modality="", station_ae="", procedure="", control="CA")
    rows = content_of(sample("ORM^O01", cancelled), KnownOrders(EXPECTED_ORDER), 1).rows
    assert rows[1] == EXPECTED_ORDER._replace(status="CA", start_date="20260101", start_time="080000")


@pytest.mark.parametrize("character_set", ["UNICODE UTF-8", "8859/1"])
def test_names_keep_their_letters_in_every_character_set(character_set: str) -> None:
    patient = PATIENT._replace(name="PREFLIGHT^JÜRGEN")
    message = Message(Template("ADT^A01", character_set=character_set).message(MESSAGE, patient))
    assert content_of(message, KnownOrders(), 1).rows == (EXPECTED_PATIENT._replace(patient_name="PREFLIGHT^JÜRGEN"),)


def test_a_big_result_is_of_the_size_asked_for() -> None:
    text = result_text(5_000_000)
    message = Message(Template("ORU^R01").message(MESSAGE, PATIENT, ORDER, text=text))
    (row,) = content_of(message, KnownOrders(), 1).rows
    assert isinstance(row, Result)
    assert row.text == text
    assert len(text) == 5_000_000


@pytest.mark.parametrize(("message_type", "needs"), [("ORM^O01", "an order"), ("ADT^A40", "the prior patient")])
def test_a_template_says_what_it_lacks(message_type: str, needs: str) -> None:
    with pytest.raises(SampleError, match=needs):
        Template(message_type).message(MESSAGE, PATIENT)


def test_a_name_that_the_character_set_cannot_write_is_an_error() -> None:
    with pytest.raises(SampleError, match="expected text in 8859/1"):
        Template("ADT^A01", character_set="8859/1").message(MESSAGE, PATIENT._replace(name="ПОЛЁТ"))


def test_own_messages_lose_their_patient_and_keep_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "order.hl7"
    file.write_bytes(
        b"MSH|^~\\&|RIS|N|PACS|H|20250101||ORM^O01|SECRETID|P|2.3\r\nPID|1|OLD1|OLD2|OLD3|DOE^JANE||19511224|F||W|MAIN ST\r\n"
        b"NK1|1|DOE^JOHN\r\nORC|NW|A1\r\nOBR|1|A1|A1|CT^HEAD\r\n"
    )
    (own,) = load_messages(tmp_path)
    raw = own.message(MESSAGE, PATIENT)
    message = Message(raw)
    assert own.message_type == "ORM^O01"
    assert message.control_id == MESSAGE.code
    assert message.required(b"PID").text(3) == PATIENT.identity.code
    assert message.required(b"OBR").whole(4) == "CT^HEAD"
    assert not [word for word in (b"DOE", b"OLD", b"1951", b"MAIN", b"SECRET") if word in raw]


@pytest.mark.parametrize(
    "content", [b"\x89PNG", b"", b"MSH|^~\\&|A|B|C|D|1||ADT^A01||P|2.5\r", b"MSH|^~\\&|A|B|C|D|1||A^B|1|P|2.5\rMSH|^~\\&|A\r"]
)
def test_a_file_that_is_not_one_message_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.hl7").write_bytes(content)
    with pytest.raises(SampleError, match=r"broken\.hl7: expected"):
        load_messages(tmp_path)


def test_a_folder_without_messages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=r"expected \*\.hl7 files"):
        load_messages(tmp_path)
