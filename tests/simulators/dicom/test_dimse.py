from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dsutils import decode as decode_data_set

from simulators.dicom import dimse
from simulators.dicom.dimse import CommandField, CommandSet, StoreRequest, decode_command
from simulators.dicom.errors import ProtocolError

CT = "1.2.840.10008.5.1.4.1.1.2"
UID = "2.25.106700000000000000000000000000000000001x"[:43] + "7"


def test_an_echo_request_is_these_bytes() -> None:
    expected = (
        "00000000 04000000 38000000"  # group length 56
        "00000200 12000000 312e322e3834302e31303030382e312e3100"  # 1.2.840.10008.1.1
        "00000001 02000000 3000"
        "00001001 02000000 0700"
        "00000008 02000000 0101"
    )
    assert dimse.c_echo_rq(7) == bytes.fromhex(expected)


@pytest.mark.parametrize(
    "command",
    [
        dimse.c_echo_rq(1), dimse.c_echo_rsp(1), dimse.c_store_rq(65535, CT, UID), dimse.c_store_rsp(9, CT, UID, 0xB000),
        dimse.c_find_rq(2, CT), dimse.c_find_rsp(2, CT, 0xFF00, has_data_set=True), dimse.c_cancel_rq(2),
        dimse.n_action_rsp(3, CT, UID, 1), dimse.n_event_report_rq(4, CT, UID, 2),
    ],
)  # fmt: skip
def test_pynetdicom_reads_a_command_set_as_we_do(command: bytes) -> None:
    theirs = decode_data_set(BytesIO(command), True, True)
    ours = decode_command(command)
    assert theirs.CommandGroupLength == len(command) - 12
    assert ours == CommandSet(
        theirs.CommandField, theirs.get("MessageID", 0), theirs.get("MessageIDBeingRespondedTo", 0),
        theirs.get("AffectedSOPClassUID", ""), theirs.get("AffectedSOPInstanceUID", ""), theirs.get("Status", -1), "",
        theirs.CommandDataSetType != 0x0101,
    )  # fmt: skip


def test_an_action_is_about_whom_it_requests() -> None:
    command = dimse.n_action_rq(7, CT, UID, 1)
    theirs, ours = decode_data_set(BytesIO(command), True, True), decode_command(command)
    assert (theirs.RequestedSOPClassUID, theirs.RequestedSOPInstanceUID, theirs.ActionTypeID) == (CT, UID, 1)
    assert (ours.sop_class, ours.sop_instance, ours.own) == (CT, UID, 1)
    assert decode_data_set(BytesIO(dimse.n_event_report_rq(4, CT, UID, 2)), True, True).EventTypeID == 2


def test_a_patched_store_request_equals_one_encoded_afresh() -> None:
    request = StoreRequest(CT)
    request.patched(1, b"9" * 44)
    assert request.patched(258, UID.encode("ascii")) == dimse.c_store_rq(258, CT, UID)


def test_a_uid_of_another_length_is_not_patched_in() -> None:
    with pytest.raises(ValueError, match="expected 44 characters, found 5"):
        StoreRequest(CT).patched(1, b"1.2.3")


def test_a_command_set_that_ends_within_an_element_is_refused() -> None:
    with pytest.raises(ProtocolError, match="expected an element of group 0000 with at most 1 bytes"):
        decode_command(dimse.c_echo_rq(1)[:-1])


def test_a_command_set_without_its_command_field_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"expected \(0000,0100\) with 2 bytes, found None"):
        decode_command(b"")


def test_an_unknown_command_is_read_as_its_number() -> None:
    command = dimse.c_echo_rq(1).replace(b"\x30\x00", b"\x40\x01")
    assert decode_command(command).command_field == 0x0140
    assert 0x0140 not in set(CommandField)


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else(garbage: bytes) -> None:
    try:
        decode_command(garbage)
    except ProtocolError:
        return
