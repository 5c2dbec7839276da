import pytest

from lbconfig.traffic_log import Connection, parse_line
from scenarios.checkers.storm import judge_storm
from scenarios.findings import Finding
from scenarios.load_runs.parts_seen import PartsSeen
from simulators.operations import Operation, Outcome, Phase
from tests.scenarios.conftest import SECOND, History, operation
from tests.scenarios.load_histories import MS, VIP, balancer, machine, parts, process

INSTANT = 20 * SECOND
CLIENTS = 50


def back(served_ms: float = 300, begun_ms: float = 20) -> list[Operation]:
    """Return one operation of each client: begun a little after the instant, served some time after it."""
    return [
        operation(
            n + 1, source=f"127.1.1.{n + 1}", intended_ns=INSTANT, begun_ns=INSTANT + round(begun_ms * MS),
            ended_ns=INSTANT + round(served_ms * MS) + n * MS,
        )
        for n in range(CLIENTS)
    ]  # fmt: skip


BEFORE = [operation(n + 100, source=f"127.1.1.{n + 1}", begun_ns=n * MS, ended_ns=n * MS + 1) for n in range(CLIENTS)]


def judged(history: History, operations: list[Operation], seen: PartsSeen | None = None, **fields: object) -> Finding:
    given: dict[str, object] = {"clients": CLIENTS, "instant_ns": INSTANT, "generators": [1], **fields}
    return judge_storm(VIP, history(*BEFORE, *operations), parts() if seen is None else seen, **given)  # type: ignore[arg-type]


def test_a_storm_of_which_everybody_was_served_passes(history: History) -> None:
    finding = judged(history, back())
    assert finding.verdict == "pass"
    assert finding.reason == (
        "50 of 50 clients came back within 0.02 s and were served, half of them within 0.32 s, the last after 0.35 s; "
        "nothing was exhausted"
    )
    assert (finding.measured["clients_served"], finding.measured["slowest_s"]) == (50, 0.349)


def test_a_client_that_was_not_served_in_time_fails(history: History) -> None:
    finding = judged(history, [*back()[:-1], back(served_ms=11_000)[-1]])
    assert (finding.verdict, finding.subject) == ("fail", "node")
    assert finding.reason == "49 of 50 clients were served within 10 s, 50 in all"


def test_a_client_that_was_turned_away_and_came_again_in_time_was_served(history: History) -> None:
    refused = back(served_ms=100)[0]._replace(outcome=Outcome.REFUSED, phase=Phase.CONNECT)
    again = back(served_ms=900, begun_ms=400)[0]._replace(attempt=2)
    assert judged(history, [refused, again, *back()[1:]]).verdict == "pass"
    assert judged(history, [refused, *back()[1:]]).verdict == "fail"


def test_fewer_clients_than_were_asked_for_are_no_storm(history: History) -> None:
    assert judged(history, []).verdict == "unknown"
    assert judged(history, back()[:-1]).verdict == "unknown"


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (parts(balancer=balancer(sessions=40, limit=40)), "40 of at most 40 sessions of HL7"),
        (parts(balancer=balancer(files=3999)), "3999 of at most 4000 open files"),
        (parts(machine=machine(ports=27_000)), "127.0.110.10 had 27000 of 28000 ports taken"),
    ],
    ids=["sessions", "files", "ports"],
)
def test_what_was_used_up_fails_also_when_everybody_was_served(history: History, seen: PartsSeen, words: str) -> None:
    finding = judged(history, back(), seen)
    assert (finding.verdict, finding.subject, words in finding.reason) == ("fail", "balancer", True)


def test_ports_of_which_nobody_can_tell_whose_they_were_leave_it_open(history: History) -> None:
    finding = judged(history, back(), parts(machine=machine(ports=27_000, source="")))
    assert (finding.verdict, "did not tell whose 27000 sockets" in finding.reason) == ("unknown", True)
    assert judged(history, back(), parts(machine=machine(ports=20_000, source=""))).verdict == "pass"  # a bound that is low


@pytest.mark.parametrize(
    "before",
    [[], [one._replace(outcome=Outcome.REFUSED) for one in BEFORE], BEFORE[1:]],
    ids=["nobody", "refused", "one not"],
)
def test_clients_that_had_not_been_served_before_did_not_come_back(history: History, before: list[Operation]) -> None:
    finding = judge_storm(VIP, history(*before, *back()), parts(), clients=CLIENTS, instant_ns=INSTANT, generators=[1])
    assert (finding.verdict, "had been served before: not all came back" in finding.reason) == ("unknown", True)
    late = [*back()[:-1], back(served_ms=11_000)[-1]]
    finding = judge_storm(VIP, history(*before, *late), parts(), clients=CLIENTS, instant_ns=INSTANT, generators=[1])
    assert finding.verdict == "fail"


def test_a_storm_whose_generator_was_not_seen_is_unknown(history: History) -> None:
    finding = judged(history, back(), generators=[1, 2])
    assert finding.verdict == "unknown"
    assert finding.reason == "all 50 clients were served, but who played them was not seen: generator/2 left no pulse"


def test_a_balancer_that_was_not_seen_is_unknown(history: History) -> None:
    assert judged(history, back(), parts(balancer=())).verdict == "unknown"


def test_clients_that_a_slow_generator_spread_did_not_come_at_once(history: History) -> None:
    late = back(served_ms=3000, begun_ms=2500)[-1]
    finding = judged(history, [*back()[:-1], late])
    assert (finding.verdict, "they did not come at once" in finding.reason) == ("unknown", True)


def test_what_a_generator_at_its_limit_did_not_get_in_time_is_nobody_s_failure(history: History) -> None:
    late = [*back()[:-1], back(served_ms=11_000)[-1]]
    assert judged(history, late, parts(process(cpu=0.99, lag_ms=400))).verdict == "unknown"
    assert judged(history, late, parts(machine=machine(busy=4.0))).verdict == "unknown"


def test_a_generator_at_its_limit_takes_nothing_from_a_storm_that_was_served_in_time(history: History) -> None:
    assert judged(history, back(), parts(process(cpu=0.99, lag_ms=400))).verdict == "pass"


def test_how_long_the_servers_took_to_accept_is_read_from_the_log(history: History) -> None:
    line = (
        "127.1.1.1:4000 [23/Nov/2026:10:00:00.000] HL7 HL7/HL71 0/{}/90 120 -- 4/4/3/2/0 0/0 "
        "300 127.0.110.10:5000 127.0.110.21:6667 1790000000"
    )
    found = [parse_line(line.format(took)) for took in (3, 9)]
    logged = [entry for entry in found if isinstance(entry, Connection)]
    measured = judged(history, back(), connections=logged).measured
    assert (measured["server_connect_p50_ms"], measured["server_connect_p99_ms"]) == (9, 9)
