from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.dicom.dimse import c_echo_rq, c_find_rsp, c_store_rq
from simulators.dicom.errors import ProtocolError
from simulators.dicom.negotiation import AssociateAccepted, AssociateRejected, AssociateRequested, Proposal, ProposedContext
from simulators.dicom.upper_layer import Aborted, Event, Message, Released, ReleaseRequested, State, UpperLayer

# pydicom's word on the UIDs of spoilt PDUs
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length")

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
PROPOSAL = Proposal(
    "MODALITY", "MACH7", (ProposedContext("1.2.840.10008.1.1", (IMPLICIT,)), ProposedContext(CT, (EXPLICIT, IMPLICIT)))
)
CT_CONTEXT = 3


def associated(*, acceptor_maximum: int = 16384) -> tuple[UpperLayer, UpperLayer]:
    requestor, acceptor = UpperLayer(), UpperLayer(maximum_length=acceptor_maximum)
    acceptor.receive(requestor.associate(PROPOSAL))
    requestor.receive(acceptor.accept({1: IMPLICIT, CT_CONTEXT: EXPLICIT}, "NODE1"))
    return requestor, acceptor


def one_message(layer: UpperLayer, content: bytes) -> Message:
    (event,) = layer.receive(content)
    assert isinstance(event, Message)
    return event


def test_an_acceptor_sees_what_a_requestor_proposes() -> None:
    (event,) = UpperLayer().receive(UpperLayer().associate(PROPOSAL))
    assert isinstance(event, AssociateRequested)
    assert (event.calling_ae, event.called_ae, event.maximum_length) == ("MODALITY", "MACH7", 131072)
    assert event.contexts == {1: PROPOSAL.contexts[0], 3: PROPOSAL.contexts[1]}


def test_a_requestor_learns_contexts_bound_and_node_from_the_acceptance() -> None:
    requestor, acceptor = UpperLayer(), UpperLayer(maximum_length=4096)
    acceptor.receive(requestor.associate(PROPOSAL))
    (event,) = requestor.receive(acceptor.accept({CT_CONTEXT: IMPLICIT}, "NODE2"))
    assert isinstance(event, AssociateAccepted)
    assert event.contexts == {3: (3, CT, IMPLICIT)}
    assert (event.refused, event.maximum_length, event.implementation_version) == ((1,), 4096, "NODE2")


def test_a_rejection_says_why_in_the_words_of_the_standard() -> None:
    requestor, acceptor = UpperLayer(), UpperLayer()
    acceptor.receive(requestor.associate(PROPOSAL))
    (event,) = requestor.receive(acceptor.reject(1, 1, 7))
    assert event == AssociateRejected(1, 1, 7)
    assert str(event) == "rejected permanently by the service user: called AE title not recognized"
    assert event.status == 0x1107


def test_a_message_is_cut_to_the_peers_maximum_length() -> None:
    requestor, acceptor = associated(acceptor_maximum=100)
    sent = b"".join(requestor.message(CT_CONTEXT, c_store_rq(1, CT, "1.2.3"), [bytes(150), b"\x01" * 61]))
    lengths, at = [], 0
    while at < len(sent):
        lengths.append(int.from_bytes(sent[at + 2 : at + 6], "big"))
        at += 6 + lengths[-1]
    assert max(lengths) == 100
    message = one_message(acceptor, sent)
    assert message.data is not None
    assert bytes(message.data) == bytes(150) + b"\x01" * 61
    assert message.command_set.sop_instance == "1.2.3"


def test_large_data_is_framed_without_a_copy() -> None:
    requestor, _ = associated()
    pixels = bytearray(100_000)
    buffers = list(requestor.message(CT_CONTEXT, c_store_rq(1, CT, "1.2.3"), [b"head", memoryview(pixels)]))
    pixels[-1] = 7
    assert bytes(buffers[-1])[-1] == 7
    assert sum(isinstance(buffer, memoryview) and buffer.obj is pixels for buffer in buffers) == 7


def test_a_release_is_asked_for_and_answered() -> None:
    requestor, acceptor = associated()
    assert acceptor.receive(requestor.release()) == [ReleaseRequested()]
    assert requestor.receive(acceptor.release_answer()) == [Released()]
    assert requestor.state is State.CLOSED


def test_an_abort_ends_the_association_at_once() -> None:
    requestor, acceptor = associated()
    assert requestor.receive(acceptor.abort()) == [Aborted(0, 0)]
    with pytest.raises(ProtocolError, match="expected an association that is established, found it over"):
        requestor.message(CT_CONTEXT, c_echo_rq(1))


def test_a_pdu_longer_than_our_bound_is_a_protocol_error() -> None:
    _, acceptor = associated(acceptor_maximum=16384)
    with pytest.raises(ProtocolError, match="expected a length of 6 to 16384 bytes, found 16385"):
        acceptor.receive(b"\x04\x00\x00\x00\x40\x01")


def test_data_on_a_context_that_was_not_accepted_is_a_protocol_error() -> None:
    requestor, acceptor = associated()
    pdu = b"".join(requestor.message(CT_CONTEXT, c_echo_rq(1)))
    with pytest.raises(ProtocolError, match=r"expected a presentation context of \[1, 3\], found 9"):
        acceptor.receive(pdu[:10] + b"\x09" + pdu[11:])


def test_a_data_set_before_its_command_is_a_protocol_error() -> None:
    _, acceptor = associated()
    with pytest.raises(ProtocolError, match="expected a fragment of a command, found one of a data set"):
        acceptor.receive(b"\x04\x00\x00\x00\x00\x08" + b"\x00\x00\x00\x04\x03\x02ab")


def test_a_data_set_longer_than_the_bound_is_a_protocol_error() -> None:
    requestor, acceptor = UpperLayer(), UpperLayer(largest_data_set_bytes=1000)
    acceptor.receive(requestor.associate(PROPOSAL))
    requestor.receive(acceptor.accept({CT_CONTEXT: EXPLICIT}, "NODE1"))
    sent = b"".join(requestor.message(CT_CONTEXT, c_store_rq(1, CT, "1.2.3"), [bytes(1002)]))
    with pytest.raises(ProtocolError, match="expected at most 1000 bytes, found 1002"):
        acceptor.receive(sent)


def test_a_pdu_out_of_turn_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="expected type 01H"):
        UpperLayer().receive(b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00")


def test_an_accepted_transfer_syntax_that_was_not_proposed_is_a_protocol_error() -> None:
    requestor, acceptor = UpperLayer(), UpperLayer()
    acceptor.receive(requestor.associate(PROPOSAL))
    with pytest.raises(ProtocolError, match="expected a proposed transfer syntax for context 1"):
        requestor.receive(acceptor.accept({1: EXPLICIT}, "NODE1"))


def conversation() -> bytes:
    """Everything that a requestor sends on one association."""
    requestor, acceptor = UpperLayer(), UpperLayer(maximum_length=64)
    request = requestor.associate(PROPOSAL)
    acceptor.receive(request)
    requestor.receive(acceptor.accept({1: IMPLICIT, CT_CONTEXT: EXPLICIT}, "NODE1"))
    parts = [
        *requestor.message(1, c_echo_rq(1)),
        *requestor.message(CT_CONTEXT, c_store_rq(2, CT, "1.2.3"), [bytes(range(200)), b"end."]),
        *requestor.message(CT_CONTEXT, c_find_rsp(3, CT, 0xFF00, has_data_set=True), [b"identifier"]),
        requestor.release(),
    ]
    return request + b"".join(parts)


CONVERSATION = conversation()
EVENTS_OF_CONVERSATION = 5


def heard(fragments: list[bytes]) -> list[Event]:
    acceptor = UpperLayer(maximum_length=64)
    events: list[Event] = []
    for fragment in fragments:
        events += acceptor.receive(fragment)
        if acceptor.state is State.TO_ANSWER:
            acceptor.accept({1: IMPLICIT, CT_CONTEXT: EXPLICIT}, "NODE1")
    return events


REQUEST_BYTES = len(UpperLayer().associate(PROPOSAL))


@given(st.lists(st.integers(REQUEST_BYTES + 1, len(CONVERSATION) - 1), max_size=40))
@settings(deadline=None, max_examples=150)
def test_any_fragmentation_of_the_stream_yields_the_same_events(cuts: list[int]) -> None:
    at = [0, REQUEST_BYTES, *sorted(set(cuts)), len(CONVERSATION)]  # nobody sends before the acceptance
    fragments = [CONVERSATION[begin:end] for begin, end in itertools.pairwise(at)]
    whole = heard([CONVERSATION[:REQUEST_BYTES], CONVERSATION[REQUEST_BYTES:]])
    assert len(whole) == EVENTS_OF_CONVERSATION
    assert heard(fragments) == whole


def test_bytes_that_come_one_by_one_yield_the_same_events() -> None:
    singles = [CONVERSATION[at : at + 1] for at in range(len(CONVERSATION))]
    assert heard(singles) == heard([CONVERSATION[:REQUEST_BYTES], CONVERSATION[REQUEST_BYTES:]])


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=200)
def test_garbage_raises_a_protocol_error_or_waits_for_more(garbage: bytes) -> None:
    for layer in (UpperLayer(), associated()[1]):
        try:
            layer.receive(garbage)
        except ProtocolError:
            continue


@given(st.integers(0, REQUEST_BYTES - 1), st.integers(0, 255))
@settings(deadline=None, max_examples=300)
def test_an_association_request_with_a_wrong_byte_raises_nothing_but_a_protocol_error(at: int, value: int) -> None:
    request = bytearray(CONVERSATION[:REQUEST_BYTES])
    request[at] = value
    try:
        UpperLayer().receive(request)
    except ProtocolError:
        return


@given(st.integers(0, 399), st.integers(0, 255))
@settings(deadline=None, max_examples=300)
def test_an_acceptance_with_a_wrong_byte_raises_nothing_but_a_protocol_error(at: int, value: int) -> None:
    requestor, acceptor = UpperLayer(), UpperLayer()
    acceptor.receive(requestor.associate(PROPOSAL))
    answer = bytearray(acceptor.accept({1: IMPLICIT, CT_CONTEXT: EXPLICIT}, "NODE1"))
    answer[at % len(answer)] = value
    try:
        requestor.receive(answer)
    except ProtocolError:
        return
