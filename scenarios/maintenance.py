"""What operators and bad days do to a site beyond the death of a node: each played whole, with what was seen of it."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from compose.lab import AcceptQueue, CanSteerBalancer, CanTellAcceptQueues
from lbconfig.site import ServiceKind, Vip
from scenarios import scripts
from scenarios.checkers.loss import judge_loss
from scenarios.episodes import Episode
from scenarios.faults import MissingAbilityError
from scenarios.findings import Finding, passed
from scenarios.knocks import Knock, knock_until
from scenarios.play import Script, wait_until, wait_until_tables_can_be_taught
from scenarios.run import STORED_KINDS, Run
from scenarios.traffic import TalkerFactory
from scenarios.workloads import on_every_vip
from simulators.client import Attempt

TEACHABLE_WITHIN_S = 10.0  # HAProxy gives its peers five seconds to be learnt from
TAUGHT_WITHIN_S = 5.0
RELOAD_SOURCES = 20  # that all of them meet their node again by luck: 2 to the power of -20

Player = Callable[[Script, TalkerFactory], Episode]


class ServiceFailures(msgspec.Struct, frozen=True):
    """One episode for each service: it failed on one node, and nothing else did."""

    by_service: dict[ServiceKind, Episode]

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """All of them."""
        return tuple(self.by_service.values())


class Blackout(msgspec.Struct, frozen=True):
    """No VIP had a real server, and clients knocked meanwhile."""

    episode: Episode
    knocks: tuple[Knock, ...]

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """The one."""
        return (self.episode,)


class Reloads(msgspec.Struct, frozen=True):
    """The balancer was reloaded under traffic: with all servers in service, with one node drained, with one halted."""

    plain: Episode
    drained: Episode
    halted: Episode

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """All three."""
        return (self.plain, self.drained, self.halted)


class Hang(msgspec.Struct, frozen=True):
    """A node hung while nobody spoke to it, then under traffic; all accept queues at the end, by service and node.

    A lab that cannot tell accept queues leaves them out.
    """

    idle: Episode
    busy: Episode
    queues: dict[ServiceKind, dict[str, AcceptQueue]]

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """The one with traffic: nothing could be lost in the other."""
        return (self.busy,)


class Remembered(msgspec.Struct, frozen=True):
    """The persistence table of one VIP just before a reload and after it: the node by source.

    `reloaded_ns` is between the two (`monotonic_ns` of the harness's host).
    """

    before: dict[str, str]
    after: dict[str, str]
    reloaded_ns: int


def fail_services(run: Run, play: Player, talkers: TalkerFactory) -> ServiceFailures:
    """Let one service after the other fail on one node, each back in service before the next."""
    return ServiceFailures({vip.service: play(scripts.stop_service(run.site, vip.service), talkers) for vip in run.site.vip})


def black_out(run: Run, play: Player, talkers: TalkerFactory) -> Blackout:
    """Stop every real server, and knock at every VIP while none is there."""
    knocks: list[Knock] = []

    def meanwhile(leave: threading.Event) -> None:
        knocks.extend(knock_until(leave, run.site, run.lab.source_addresses, within_s))

    within_s = max(vip.limits.refused_s for vip in run.site.vip) + 1
    return Blackout(play(scripts.stop_every_server(run.site, meanwhile), talkers), tuple(knocks))


def reload(run: Run, play: Player, talkers: TalkerFactory) -> Reloads:
    """Reload the balancer three times, each time in another state, and not sooner than its tables can be taught."""

    def once(state: scripts.MaintenanceState) -> Episode:
        wait_until_tables_can_be_taught(run, TEACHABLE_WITHIN_S)
        return play(scripts.reload_balancer(run.site, state), talkers)

    return Reloads(once(None), once("drain"), once("halt"))


def hang(run: Run, play: Player, talkers: TalkerFactory) -> Hang:
    """Let a node accept and never answer: first with nobody there but the health check, then under traffic."""
    queues: dict[ServiceKind, dict[str, AcceptQueue]] = {}

    def look_at_queues(leave: threading.Event) -> None:
        leave.wait()
        if isinstance(run.lab, CanTellAcceptQueues):
            for vip in run.site.vip:
                nodes = [server.node for server in vip.real_server]
                queues[vip.service] = {node: run.lab.accept_queue(node, vip.service) for node in nodes}

    script = functools.partial(scripts.hang_node, run.site, meanwhile=look_at_queues)
    return Hang(play(script(quiet=True), talkers), play(script(quiet=False), talkers), queues)


def reconnect_around_a_reload(run: Run, make_talker: TalkerFactory, workload: int) -> dict[str, Remembered]:
    """Let twenty sources of each VIP connect, reload the balancer, let them connect again in random order.

    Returns
    -------
    dict of str to Remembered
        By VIP. The tables are read again until all sources are there, for at most five seconds.
    """
    if not isinstance(run.lab, CanSteerBalancer):
        raise MissingAbilityError("reload the balancer")
    talkers = {
        vip.name: [make_talker(vip, source) for source in run.lab.source_addresses(RELOAD_SOURCES)] for vip in run.site.vip
    }

    def connect(vip: Vip, order: list[int]) -> None:
        for place in order:
            talker = talkers[vip.name][place]
            talker.say(Attempt(talker.new_identity(), workload=workload))
            talker.hang_up()

    def connect_again(vip: Vip) -> None:
        order = list(range(RELOAD_SOURCES))
        run.random(f"around a reload {vip.name}").shuffle(order)
        connect(vip, order)

    on_every_vip(run, lambda vip: connect(vip, list(range(RELOAD_SOURCES))))
    wait_until_tables_can_be_taught(run, TEACHABLE_WITHIN_S)
    sources = {name: [talker.source for talker in own] for name, own in talkers.items()}
    before = _tables(run, sources)
    run.lab.reload_balancer()
    reloaded_ns = time.monotonic_ns()
    wait_until(lambda: all(len(_tables(run, sources)[name]) == len(before[name]) for name in before), TAUGHT_WITHIN_S)
    after = _tables(run, sources)
    on_every_vip(run, connect_again)
    return {name: Remembered(before[name], after[name], reloaded_ns) for name in before}


def nothing_lost(run: Run, vip: Vip, episodes: Sequence[Episode]) -> Finding:
    """Say what the loss checker says of what one VIP was sent in some episodes."""
    if vip.service == "dmwl":
        return passed("a worklist takes nothing that could be lost", measured={"acknowledged": 0, "lost": 0})
    operations = run.operations(vip.service, [episode.workload for episode in episodes], kinds=STORED_KINDS)
    receipts = run.receipts(vip.service)
    own = receipts.filter(receipts["key"].is_in(operations["key"].unique().to_list()))
    return judge_loss(operations, own, at_least=10, payload="payloads")


def _tables(run: Run, sources: dict[str, list[str]]) -> dict[str, dict[str, str]]:
    """Return the node of each of the sources that has an entry, by VIP."""
    if not isinstance(run.lab, CanSteerBalancer):
        raise MissingAbilityError("read the balancer's table")
    tables: dict[str, dict[str, str]] = {}
    for vip in run.site.vip:
        node_of = {server.id: server.node for server in vip.real_server}
        entries = run.lab.balancer.table(vip.name)
        tables[vip.name] = {
            entry.source: node_of.get(entry.server_id, "") for entry in entries if entry.source in sources[vip.name]
        }
    return tables
