from __future__ import annotations

import gevent
import pytest

from scenarios.load.turns import Turns


class Crowd:
    """Clients that take arrivals until there are no more; each needs some turns of the loop for one."""

    def __init__(self, turns: Turns[int], clients: int, busy_turns: int = 0) -> None:
        self.took: list[tuple[int, int]] = []  # client, arrival
        self._turns = turns
        self._busy_turns = busy_turns
        self.greenlets = [gevent.spawn(self._live, number) for number in range(clients)]
        gevent.sleep(0)  # all wait now, in the order of their numbers

    def _live(self, number: int) -> None:
        while (arrival := self._turns.take()) is not None:
            self.took.append((number, arrival))
            for _ in range(self._busy_turns):
                gevent.sleep(0)


@pytest.fixture
def turns() -> Turns[int]:
    return Turns()


def test_the_client_that_waits_longest_takes_the_next_arrival(turns: Turns[int]) -> None:
    crowd = Crowd(turns, 3)
    for arrival in range(7):
        turns.offer(arrival)
        gevent.sleep(0)
    assert crowd.took == [(0, 0), (1, 1), (2, 2), (0, 3), (1, 4), (2, 5), (0, 6)]


def test_who_asks_between_an_arrival_and_the_waking_of_a_client_takes_nothing_from_it(turns: Turns[int]) -> None:
    crowd = Crowd(turns, 1)
    turns.offer(1)  # the client is not woken before the loop turns
    late = gevent.spawn(turns.take)
    late.start()
    gevent.sleep(0)
    turns.close()
    assert (crowd.took, late.get(timeout=5)) == ([(0, 1)], None)


def test_every_client_of_a_crowd_has_its_turn_however_the_arrivals_come(turns: Turns[int]) -> None:
    crowd = Crowd(turns, 20_000, busy_turns=3)
    for arrival in range(20_000):
        turns.offer(arrival)
        if arrival % 7 == 0:
            gevent.sleep(0)
    turns.close()
    gevent.joinall(crowd.greenlets, timeout=60)
    assert sorted(client for client, _ in crowd.took) == list(range(20_000))


def test_arrivals_that_find_no_client_are_taken_in_their_order_also_when_there_are_no_further_ones(turns: Turns[int]) -> None:
    for arrival in range(3):
        turns.offer(arrival)
    turns.close()
    assert [turns.take() for _ in range(4)] == [0, 1, 2, None]


def test_a_client_that_is_ended_leaves_the_line_and_loses_no_arrival(turns: Turns[int]) -> None:
    crowd = Crowd(turns, 3)
    crowd.greenlets[0].kill()
    crowd.greenlets[1].kill(block=False)
    turns.offer(1)  # given to the client that is about to end
    gevent.sleep(0)
    turns.close()
    gevent.joinall(crowd.greenlets, timeout=5)
    assert crowd.took == [(2, 1)]
