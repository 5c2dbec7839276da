"""Messages of the shape of the one before: read as any other is, and only where every byte allows it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.dicom.dimse import CommandSet, c_store_rq
from simulators.dicom.errors import ProtocolError
from simulators.dicom.negotiation import Proposal, ProposedContext
from simulators.dicom.upper_layer import Event, Message, UpperLayer

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
SYNTAXES = ("1.2.840.10008.1.2",)
PROPOSAL = Proposal("MODALITY", "MACH7", (ProposedContext(CT, SYNTAXES), ProposedContext(MR, SYNTAXES)))
CT_CONTEXT, MR_CONTEXT = 1, 3
FIRST_UID, NEXT_UID = "2.25.111", "2.25.222"


def associated() -> tuple[UpperLayer, UpperLayer]:
    requestor, acceptor = UpperLayer(), UpperLayer()
    acceptor.receive(requestor.associate(PROPOSAL))
    requestor.receive(acceptor.accept({CT_CONTEXT: SYNTAXES[0], MR_CONTEXT: SYNTAXES[0]}, "NODE1"))
    return requestor, acceptor


def store(layer: UpperLayer, number: int, uid: str, data: bytes, *, sop_class: str = CT) -> bytes:
    context_id = CT_CONTEXT if sop_class == CT else MR_CONTEXT
    return b"".join(layer.message(context_id, c_store_rq(number, sop_class, uid), (data,)))


def learned() -> tuple[UpperLayer, UpperLayer]:
    """Return an association whose acceptor has taken an image of 100 bytes."""
    requestor, acceptor = associated()
    acceptor.receive(store(requestor, 1, FIRST_UID, bytes(100)))
    return requestor, acceptor


def only(events: list[Event]) -> Message:
    (event,) = events
    assert isinstance(event, Message)
    return event


def test_the_next_of_a_shape_has_its_own_message_id_uid_and_data() -> None:
    requestor, acceptor = learned()
    message = only(acceptor.receive(store(requestor, 0x1234, NEXT_UID, b"\x07" * 100)))
    assert (message.context_id, message.data) == (CT_CONTEXT, b"\x07" * 100)
    assert message.command_set == CommandSet(0x0001, 0x1234, sop_class=CT, sop_instance=NEXT_UID, has_data_set=True)


def test_two_of_a_shape_that_come_together_are_two() -> None:
    requestor, acceptor = learned()
    both = store(requestor, 2, NEXT_UID, b"\x02" * 100) + store(requestor, 3, FIRST_UID, b"\x03" * 100)
    assert [(event.command_set.message_id, event.data) for event in acceptor.receive(both) if isinstance(event, Message)] == [
        (2, b"\x02" * 100), (3, b"\x03" * 100),
    ]  # fmt: skip


@pytest.mark.parametrize("size_bytes", [2, 98, 102, 4000])
def test_another_length_is_another_shape(size_bytes: int) -> None:
    requestor, acceptor = learned()
    assert only(acceptor.receive(store(requestor, 2, NEXT_UID, b"\x07" * size_bytes))).data == b"\x07" * size_bytes


def test_another_sop_class_is_another_shape() -> None:
    requestor, acceptor = learned()
    message = only(acceptor.receive(store(requestor, 2, NEXT_UID, bytes(100), sop_class=MR)))
    assert (message.context_id, message.command_set.sop_class) == (MR_CONTEXT, MR)


def test_a_message_of_the_shape_that_is_not_whole_yet_is_waited_for() -> None:
    requestor, acceptor = learned()
    content = store(requestor, 2, NEXT_UID, b"\x07" * 100)
    assert acceptor.receive(content[:-1]) == []
    assert only(acceptor.receive(content[-1:])).command_set.sop_instance == NEXT_UID


CONTENT = store(associated()[0], 2, NEXT_UID, bytes(100))


@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_spoilt_byte_means_to_a_layer_that_knows_the_shape_what_it_means_to_one_that_does_not(at: int, value: int) -> None:
    content = CONTENT[:at] + bytes((value,)) + CONTENT[at + 1 :]
    assert said(learned()[1], content) == said(associated()[1], content)


def said(layer: UpperLayer, content: bytes) -> object:
    """Return the events, or the error."""
    try:
        return layer.receive(content), layer.is_between_units
    except ProtocolError as error:
        return str(error)
