import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.hl7.mllp import Decoder, Frame, FrameTooLarge, StrayBytes, frame

PAYLOADS = st.lists(st.binary(max_size=60).filter(lambda data: b"\x1c\r" not in data + b"\r"), max_size=6)


def fed(decoder: Decoder, stream: bytes, cuts: list[int]) -> list[Frame | StrayBytes]:
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [event for begin, end in itertools.pairwise(places) for event in decoder.feed(stream[begin:end])]


@given(PAYLOADS, st.lists(st.integers(min_value=0, max_value=10_000), max_size=12))
def test_frames_arrive_whole_however_the_stream_is_cut(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, payloads))
    assert fed(Decoder(), stream, cuts) == [Frame(payload) for payload in payloads]


@given(st.binary(max_size=300), st.lists(st.integers(min_value=0, max_value=10_000), max_size=12))
def test_every_byte_of_a_stream_is_accounted_for_in_its_order(stream: bytes, cuts: list[int]) -> None:
    decoder = Decoder()
    events = fed(decoder, stream, cuts)
    seen = b"".join(frame(event.payload) if isinstance(event, Frame) else event.data for event in events)
    assert stream.startswith(seen)
    assert decoder.is_within_frame == (seen != stream)


def test_bytes_before_a_frame_are_stray_and_the_frame_is_still_found() -> None:
    assert Decoder().feed(b"GET / HTTP/1.1\r\n\x0bMSH\x1c\r") == [StrayBytes(b"GET / HTTP/1.1\r\n"), Frame(b"MSH")]


def test_a_frame_fed_byte_by_byte_comes_out_once_at_its_last_byte() -> None:
    decoder = Decoder()
    events = [decoder.feed(bytes([byte])) for byte in b"\x0bMSH|\x1c\r"]
    assert events == [[], [], [], [], [], [], [Frame(b"MSH|")]]


@pytest.mark.parametrize("stream", [b"\x0b12345\x1c\r", b"\x0b123456789"])
def test_a_frame_above_the_limit_is_an_error(stream: bytes) -> None:
    with pytest.raises(FrameTooLarge, match="at most 4 bytes"):
        Decoder(limit_bytes=4).feed(stream)


def test_a_frame_of_exactly_the_limit_is_taken() -> None:
    assert Decoder(limit_bytes=4).feed(b"\x0b1234\x1c\r") == [Frame(b"1234")]


@given(st.binary(max_size=40) | PAYLOADS.map(lambda payloads: b"".join(map(frame, payloads))))
def test_what_is_taken_as_one_whole_frame_is_what_a_full_reading_finds(data: bytes) -> None:
    payload = Decoder().whole(data)
    decoder = Decoder()
    events = decoder.feed(data)
    is_one = len(events) == 1 and isinstance(events[0], Frame) and not decoder.is_within_frame
    assert payload == (events[0][0] if is_one else None)


def test_bytes_behind_a_frame_that_has_begun_are_no_whole_frame() -> None:
    decoder = Decoder()
    decoder.feed(b"\x0bhalf")
    assert decoder.whole(frame(b"whole")) is None
