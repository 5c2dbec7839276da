"""The Docker daemon: taken as it is where one answers, and told apart from what was started here."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose import engine
from compose.engine import Engine, ensure_engine, stop_engine
from compose.lab import LabError


@pytest.fixture
def socket_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let Docker's usual socket be one of our own, with nobody at it."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    with tempfile.TemporaryDirectory(prefix="pf") as directory:
        path = Path(directory) / "docker.sock"
        monkeypatch.setattr(engine, "DEFAULT_SOCKET", path)
        yield path


def answer_once(path: Path, answer: bytes) -> threading.Thread:
    """Answer one request at a unix socket."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_daemon_that_answers_is_taken_and_was_not_started_here(socket_path: Path, tmp_path: Path) -> None:
    thread = answer_once(socket_path, b"HTTP/1.0 200 OK\r\n\r\nOK")
    assert ensure_engine(tmp_path) == Engine(f"unix://{socket_path}", started=False)
    thread.join()


def test_the_daemon_that_the_environment_names_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///elsewhere.sock")
    assert ensure_engine(tmp_path) == Engine("unix:///elsewhere.sock", started=False)


def test_without_a_daemon_and_without_its_program_it_is_said_what_to_install(
    socket_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not socket_path.exists()
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(LabError, match=r"expected a daemon that answers, or the program dockerd, found neither\. Run `make"):
        ensure_engine(tmp_path)


def test_a_socket_that_nobody_answers_at_is_no_daemon_and_an_ordinary_user_may_start_none(
    socket_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = answer_once(socket_path, b"HTTP/1.0 500 Internal Server Error\r\n\r\n")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/usr/sbin/dockerd")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(
        LabError, match=rf"expected a daemon that answers at {socket_path}, found none, and only root may start"
    ):
        ensure_engine(tmp_path)
    thread.join()


def test_a_daemon_that_was_not_started_here_is_not_ended(tmp_path: Path) -> None:
    assert stop_engine(tmp_path) is False
    (tmp_path / "dockerd.pid").write_text(str(os.getpid()))  # the number of a process that is no daemon of ours
    assert stop_engine(tmp_path) is False
