from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.web.http_answer import Answer, AnswerReader, BadAnswerError, request_line

LENGTH = b"HTTP/1.1 200 OK\r\nX-Node: A\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nX-Node: A\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nX-Node: B\r\n\r\n" + LENGTH
EMPTY = b"HTTP/1.1 204 No Content\r\nX-Node: A\r\n\r\n"
TO_THE_END = b"HTTP/1.0 200 OK\r\nX-Node: A\r\n\r\nhello"


def read(pieces: list[bytes]) -> tuple[Answer | None, AnswerReader]:
    reader = AnswerReader()
    answers = [reader.feed(piece) for piece in pieces]
    return answers[-1], reader


@pytest.mark.parametrize(("data", "status", "body"), [(LENGTH, 200, b"hello"), (CHUNKED, 200, b"hello"), (EMPTY, 204, b"")])
def test_an_answer_is_read_to_its_end_and_the_connection_lives_on(data: bytes, status: int, body: bytes) -> None:
    answer, reader = read([data])
    assert answer is not None
    assert (answer.status, answer.body, answer.headers["x-NODE"], reader.keeps_alive) == (status, body, "A", True)


@pytest.mark.parametrize("data", [LENGTH, CHUNKED, INTERIM, EMPTY])
@given(cuts=st.sets(st.integers(1, 200)))
def test_it_is_the_same_answer_however_the_network_cut_it(data: bytes, cuts: set[int]) -> None:
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    answer, reader = read([data[begin:end] for begin, end in itertools.pairwise(places)])
    assert answer is not None
    expected = (204, b"", "A") if data is EMPTY else (200, b"hello", "A")
    assert (answer.status, answer.body, answer.headers["X-Node"]) == expected
    assert reader.keeps_alive


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    answer, reader = read([TO_THE_END])
    assert answer is None
    ended = reader.end()
    assert (ended.status, ended.body, reader.keeps_alive) == (200, b"hello", False)


@pytest.mark.parametrize(
    ("data", "status"),
    [(LENGTH[:-1], 200), (CHUNKED[:-1], 200), (LENGTH[:30], 0), (b"", 0), (b"HTTP/1.1 103 Early Hints\r\n\r\n", 0)],
)
def test_an_answer_that_is_cut_short_is_none_and_says_how_far_it_came(data: bytes, status: int) -> None:
    _, reader = read([data])
    assert reader.status == status
    with pytest.raises(BadAnswerError, match="the end"):
        reader.end()


@pytest.mark.parametrize("data", [b"\x01\x00\x00\x00", b"MSH|^~\\&|", b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_what_is_not_http_is_no_answer(data: bytes) -> None:
    with pytest.raises(BadAnswerError, match="no HTTP answer"):
        read([data])


@pytest.mark.parametrize("data", [LENGTH.replace(b"X-Node: A", b"Connection: close"), LENGTH + EMPTY])
def test_a_connection_that_says_so_or_brings_more_than_was_asked_for_is_not_used_again(data: bytes) -> None:
    answer, reader = read([data])
    assert answer is not None
    assert (answer.status, answer.body, reader.keeps_alive) == (200, b"hello", False)


def test_fields_are_found_in_any_case_and_all_of_them() -> None:
    answer, _ = read([b"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"])
    assert answer is not None
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert (answer.headers.get("SET-COOKIE"), answer.headers.get("X"), answer.headers.get("X", "y")) == ("a=1", None, "y")
    with pytest.raises(KeyError):
        answer.headers["X"]


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y", "/\xe4", "/\x00"])
def test_a_target_that_would_change_the_request_is_not_sent(target: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII"):
        request_line("GET", target)
