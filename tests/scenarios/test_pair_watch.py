"""What is heard of a UDP port: an answer, a refusal, or nothing, which is neither."""

import socket
import threading

from scenarios.pair_watch import ask_udp

HERE = "127.0.0.1"


def test_a_port_that_answers_one_that_refuses_and_one_that_is_silent_are_told_apart() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((HERE, 0))
        port = listening.getsockname()[1]
        assert ask_udp(HERE, HERE, port) == "silent"
        listening.recvfrom(1)
        echo = threading.Thread(target=lambda: listening.sendto(b"!", listening.recvfrom(1)[1]))
        echo.start()
        assert ask_udp(HERE, HERE, port) == "answered"
        echo.join(5)
    assert ask_udp(HERE, HERE, port) == "refused"
