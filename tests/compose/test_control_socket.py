from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compose.control_socket import answer_one, ask, listen
from compose.lab import LabError

LIMIT_S = 10.0


def answer(request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "refuse":
        raise LabError("mach7-9: expected a node, found none")
    return {"echo": request["text"]}


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Make a folder whose sockets have longer paths than the kernel takes."""
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    return folder


@pytest.fixture
def served(deep: Path) -> Iterator[Path]:
    path = deep / "control.sock"
    with listen(path) as listener:
        done = threading.Event()

        def serve() -> None:
            listener.settimeout(0.05)
            while not done.is_set():
                try:
                    answer_one(listener, answer)
                except TimeoutError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        done.set()
        thread.join()


def test_a_request_is_answered_however_deep_the_socket_lies(served: Path) -> None:
    assert ask(served, {"do": "say", "text": "ä" * 100_000}, LIMIT_S) == {"echo": "ä" * 100_000}


def test_what_cannot_be_done_is_an_error_with_its_reason(served: Path) -> None:
    with pytest.raises(LabError, match=r"control\.sock: refuse: mach7-9: expected a node, found none"):
        ask(served, {"do": "refuse"}, LIMIT_S)


def test_a_request_that_lacks_something_is_an_error(served: Path) -> None:
    with pytest.raises(LabError, match="KeyError: 'text'"):
        ask(served, {"do": "say"}, LIMIT_S)


@pytest.mark.parametrize("line", [b"{\n", b"[]\n", b'{"do": 1}\n'])
def test_what_is_no_request_is_answered_with_what_was_expected(served: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(LIMIT_S)
        channel.connect(_by_folder(served))
        channel.sendall(line)
        assert b"error" in channel.recv(4096)


def test_a_request_that_nobody_answers_names_the_socket(deep: Path) -> None:
    with pytest.raises(LabError, match=r"control\.sock: status: expected an answer within 1 s, found .*No such file"):
        ask(deep / "control.sock", {"do": "status"}, 1.0)


def test_who_hangs_up_before_it_has_asked_ends_nothing(served: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.connect(_by_folder(served))
    assert ask(served, {"do": "say", "text": "still here"}, LIMIT_S) == {"echo": "still here"}


def test_a_socket_takes_the_place_of_one_that_was_left(deep: Path) -> None:
    listen(deep / "control.sock").close()
    with listen(deep / "control.sock"):
        assert (deep / "control.sock").is_socket()


def _by_folder(path: Path) -> str:
    """Name a socket by the folder's descriptor, as its server does; the descriptor lives as long as the test."""
    return f"/proc/self/fd/{os.open(path.parent, os.O_PATH | os.O_DIRECTORY)}/{path.name}"


def test_a_socket_that_is_there_listens(tmp_path: Path) -> None:
    met: list[OSError] = []

    def connect_at_once(path: Path) -> None:
        while not path.exists():
            pass
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            try:
                channel.connect(str(path))
            except OSError as error:
                met.append(error)

    for number in range(200):
        path = tmp_path / f"{number}.sock"
        watcher = threading.Thread(target=connect_at_once, args=(path,))
        watcher.start()
        with listen(path):
            watcher.join()
    assert met == []
