"""What is sent when, without a fault: reconnects in random order, new sources that hold on, a steady stream."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from compose.lab import CanSteerBalancer
from lbconfig.runtime_api import ServerState
from lbconfig.site import RealServer, Vip
from scenarios.checkers.added import Pair
from scenarios.play import wait_until
from scenarios.run import Run
from scenarios.talkers import Talker
from scenarios.traffic import TalkerFactory
from simulators.client import Attempt
from simulators.operations import Operation, Outcome

StraightFactory = Callable[[Vip, RealServer, str], Talker]

RECONNECTING_SOURCES = 20
RECONNECTS = 10
RECONNECT_WITHIN_S = 120.0
SPREAD_SOURCES = 20
QUIET_WITHIN_S = 5.0
STEADY_SOURCES = 2  # least connections gives each of two nodes one of them
STEADY_IMAGES = 260
STEADY_MESSAGES = 1000
STEADY_NOTES = 260
PAIRS = 150  # of LOAD-2, on each VIP
_UNPAIRED = 10  # before them, to warm up both ways
_GIVE_UP_AFTER = 5  # failures in a row: the VIP does not answer, more of the same tells nothing new


def on_every_vip(run: Run, body: Callable[[Vip], None]) -> None:
    """Do something on every VIP at once, each in a thread of its own; raise what the first of them raised."""
    failures: list[BaseException] = []

    def guarded(vip: Vip) -> None:
        try:
            body(vip)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(vip,), name=f"workload {vip.name}") for vip in run.site.vip]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def reconnect_at_random(run: Run, make_talker: TalkerFactory, workload: int) -> None:
    """Let twenty sources of each VIP connect ten times each, in an order that the seed shuffles for each VIP anew.

    Going round by round proves nothing: two servers taking turns look like persistence.
    """

    def on_vip(vip: Vip) -> None:
        talkers = [make_talker(vip, source) for source in run.lab.source_addresses(RECONNECTING_SOURCES)]
        order = [talker for talker in talkers for _ in range(RECONNECTS)]
        run.random(f"reconnects {vip.name}").shuffle(order)
        _say_in_turn(order, workload, RECONNECT_WITHIN_S)

    on_every_vip(run, on_vip)


class Placed(msgspec.Struct, frozen=True):
    """Where the new sources of one VIP went, by node, and what the balancer said of its servers while they held on."""

    sources_by_node: dict[str, int]
    up: dict[str, bool]
    in_flight: int


def hold_new_sources(run: Run, make_talker: TalkerFactory, workload: int, vip: Vip) -> Placed:
    """Clear one VIP's table, let new sources come one after the other, and keep every session open until all are placed.

    The balancer's own count of sessions on the VIP before the first source is what may have been in flight.
    """
    if not isinstance(run.lab, CanSteerBalancer):
        raise TypeError("the lab cannot steer the balancer")
    balancer = run.lab.balancer
    node_of = {server.label: server.node for server in vip.real_server}

    def servers() -> list[ServerState]:
        return [server for server in balancer.servers() if server.vip == vip.name and server.label in node_of]

    wait_until(lambda: not any(server.current_sessions for server in servers()), QUIET_WITHIN_S)
    balancer.clear_table(vip.name)
    before = servers()
    talkers = [make_talker(vip, source) for source in run.lab.source_addresses(SPREAD_SOURCES)]
    met: Counter[str] = Counter()
    for talker in talkers:
        operation = talker.say(Attempt(talker.new_identity(), workload=workload))
        if operation.outcome == Outcome.ACKNOWLEDGED:
            met[_node_met(operation)] += 1
    for talker in talkers:
        talker.hang_up()
    return Placed(
        sources_by_node=dict(met),
        up={node_of[server.label]: server.status.startswith("UP") for server in before},
        in_flight=sum(server.current_sessions for server in before),
    )


def stream_steadily(run: Run, make_talker: TalkerFactory, workload: int) -> None:
    """Let two sources of each VIP say a few hundred things each over sessions that they keep."""
    amounts = {"dicom": STEADY_IMAGES, "hl7": STEADY_MESSAGES, "dmwl": 0, "https": STEADY_NOTES}

    def on_vip(vip: Vip) -> None:
        talkers = [make_talker(vip, source) for source in run.lab.source_addresses(STEADY_SOURCES)]
        if amounts[vip.service]:
            _settle(talkers, workload)
        streams = [
            threading.Thread(target=_stream, args=(talker, amounts[vip.service], workload), name=f"stream {talker.source}")
            for talker in talkers
        ]
        for stream in streams:
            stream.start()
        for stream in streams:
            stream.join()

    on_every_vip(run, on_vip)


def say_in_pairs(
    run: Run, make_talker: TalkerFactory, make_straight: StraightFactory, workload: int, vip: Vip
) -> list[Pair]:  # fmt: skip
    """Let two sources say the same, one through the VIP and one straight to the node that the VIP led to, in pairs.

    Which of a pair comes first is drawn anew for each, so that what the first one warms helps neither. Sessions stay open:
    what connecting costs is another question. A pair of which one was not acknowledged, or met another node, is left out.
    """
    through = make_talker(vip, run.lab.source_addresses(1)[0])
    node = _node_met(through.say(Attempt(through.new_identity(), workload=workload)))
    server = next((server for server in vip.real_server if server.node == node), vip.real_server[0])
    straight = make_straight(vip, server, run.straight_sources(1)[0])
    draw = run.random(f"pairs {vip.name}")
    pairs: list[Pair] = []
    failures = 0
    for number in range(-_UNPAIRED, PAIRS):
        vip_first = draw.random() < 0.5
        said = [
            talker.say(Attempt(talker.new_identity(), workload=workload))
            for talker in ((through, straight) if vip_first else (straight, through))
        ]
        good = all(operation.outcome == Outcome.ACKNOWLEDGED and _node_met(operation) == node for operation in said)
        failures = 0 if good else failures + 1
        if failures == _GIVE_UP_AFTER:
            break
        first_ns, second_ns = (operation.ended_ns - operation.begun_ns for operation in said)
        if number >= 0 and good:
            pairs.append(Pair(second_ns, first_ns, vip_first) if vip_first else Pair(first_ns, second_ns, vip_first))
    through.hang_up()
    straight.hang_up()
    return pairs


def _node_met(operation: Operation) -> str:
    return operation.node.rstrip(b"\x00").decode("ascii")


def _settle(talkers: list[Talker], workload: int) -> None:
    """Open the sessions one after the other, so that least connections gives each node its share."""
    for talker in talkers:
        talker.say(Attempt(talker.new_identity(), workload=workload))


def _stream(talker: Talker, amount: int, workload: int) -> None:
    failures = 0
    for _ in range(amount):
        operation = talker.say(Attempt(talker.new_identity(), workload=workload))
        failures = 0 if operation.outcome == Outcome.ACKNOWLEDGED else failures + 1
        if failures == _GIVE_UP_AFTER:
            break
    talker.hang_up()


def _say_in_turn(order: list[Talker], workload: int, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    failures = 0
    for talker in order:
        operation = talker.say(Attempt(talker.new_identity(), workload=workload))
        talker.hang_up()
        failures = 0 if operation.outcome == Outcome.ACKNOWLEDGED else failures + 1
        if failures == _GIVE_UP_AFTER or time.monotonic() > deadline:
            return
