"""Plays what happens to a pair under traffic: entries that travel, units that fail, paths that are cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import msgspec

from compose.lab import CanCutPaths, CanFailUnits, HasBalancerPair, HasRoutedSources, LabError
from lbconfig.runtime_api import BalancerError
from lbconfig.site import Node, Vip
from scenarios.faults import MissingAbilityError
from scenarios.pair_watch import HolderWatch, nodes_led_to, pair_of, settings_of, table_of, unlike_whole
from scenarios.play import LEAVE_WITHIN_S, wait_until
from scenarios.repeated import Repeated
from scenarios.run import Run
from scenarios.takeovers import CutEpisode, Replicated, UnitEpisode, Visitor, Way
from scenarios.talkers import Talker
from scenarios.traffic import TalkerFactory, Traffic
from scenarios.watch import LagMeter
from scenarios.workloads import on_every_vip
from simulators.client import Attempt, Timeouts
from simulators.operations import Identity, Outcome

ENTRIES = 20  # of PAIR-2, on each VIP
VISITORS = 104  # of PAIR-3, on each VIP: a hundred, and some for those that fail before anything is broken
LOCAL_VISITORS = 8  # of them in the VIPs' own subnet, which is small
PROBES = 2  # on each side of each VIP
PROBE_PACE_S = 0.15
PROBE_TIMEOUTS = Timeouts(connect_s=0.25, negotiate_s=0.5, send_s=0.5, response_s=0.5)
TRIES = 3
GIVE_UP_AFTER = 3  # visitors in a row that were not served: the VIP does not answer, more of the same tells nothing new
QUIET_S = 1.5  # of probing before the failure
ANSWERS_AGAIN_S = 6.0  # how much longer than allowed a takeover is waited for: to tell late from never
RECOVERED_WITHIN_S = 10.0
WATCHED_AFTER_S = 3.2  # several advertisements and checks
WHOLE_WITHIN_S = 30.0
CUT_S = 3.0  # or longer, where the units would not have noticed by then
CUT_ADVERTS = 5  # a backup waits for three, and up to one more by its priority
TABLE_EVERY_S = 0.05


class UnitFailures(msgspec.Struct, frozen=True):
    """One episode for each way in which the active unit failed."""

    failures: tuple[UnitEpisode, ...]


def client_timeouts(timeouts: Timeouts) -> Timeouts:
    """Return time-outs of clients that connect anew soon when a balancer has gone, and wait for a slow one."""
    return msgspec.structs.replace(timeouts, connect_s=1.0, negotiate_s=3.0, send_s=3.0, response_s=3.0)


def follow_entries(run: Run, make_talker: TalkerFactory, workload: int) -> dict[str, list[Replicated]]:
    """Let new sources come to each VIP, and note when the entry of each is on either unit."""
    pair, bound_s = pair_of(run.lab), settings_of(run.lab).replication_s
    active = pair.active_unit()
    passive = _other(pair, active)
    found: dict[str, list[Replicated]] = {}

    def on_vip(vip: Vip) -> None:
        talkers = [make_talker(vip, source) for source in run.lab.source_addresses(ENTRIES)]
        answered: dict[str, tuple[str, int]] = {}
        with _TableWatch(pair, (active, passive), vip, run.site.node) as watch:
            for talker in talkers:
                operation = talker.say(Attempt(talker.new_identity(), workload=workload))
                talker.hang_up()
                if operation.outcome == Outcome.ACKNOWLEDGED:
                    answered[talker.source] = (operation.node.rstrip(b"\x00").decode("ascii"), operation.ended_ns)
            wait_until(lambda: watch.knows(answered), bound_s + 1)
        found[vip.name] = [
            Replicated(
                source, node, ended_ns, watch.first_ns(active, source), watch.first_ns(passive, source),
                watch.node(active, source), watch.node(passive, source),
            )
            for source, (node, ended_ns) in answered.items()
        ]  # fmt: skip

    on_every_vip(run, on_vip)
    return found


class Failing:
    """Lets the active unit of a pair fail in one way after the other, with the same visitors each time.

    Parameters
    ----------
    run : Run
        On a lab whose units can fail, with clients on both sides of a router.
    make_talker, make_probe : function of (Vip, source address)
        Make talkers through a VIP: of ordinary clients, and of those that ask again and again.
    """

    def __init__(self, run: Run, make_talker: TalkerFactory, make_probe: TalkerFactory) -> None:
        lab = run.lab
        if not isinstance(lab, CanFailUnits):
            raise MissingAbilityError("fail a unit of a pair of balancers")
        if not isinstance(lab, HasRoutedSources):
            raise MissingAbilityError("send from both sides of a router")
        self._run, self._lab, self._make_talker = run, lab, make_talker
        self._visitors: dict[str, list[Talker]] = {}
        self._known: list[Visitor] = []
        self._probes: list[_Probe] = []
        for vip in run.site.vip:
            local = lab.local_source_addresses(LOCAL_VISITORS + PROBES)
            routed = lab.routed_source_addresses(VISITORS - LOCAL_VISITORS + PROBES)
            for side, addresses in (("local", local), ("routed", routed)):
                probes, visitors = addresses[:PROBES], addresses[PROBES:]
                self._known += [Visitor(address, vip.name, side, is_probe=True) for address in probes]
                self._known += [Visitor(address, vip.name, side) for address in visitors]
                self._probes += [_Probe(make_probe(vip, address), vip.name, side) for address in probes]
                self._visitors.setdefault(vip.name, []).extend(make_talker(vip, address) for address in visitors)

    def fail(self, how: Way) -> UnitEpisode:
        """Let the active unit fail, mend it, and return what is remembered.

        Raises
        ------
        LabError
            When the pair was not whole before.
        """
        await_whole(self._run, self._lab)
        workload = self._run.workload(f"a unit {how}")
        traffic = Traffic(self._run, self._make_talker, workload)
        victim = self._lab.active_unit()
        with HolderWatch(self._lab) as watch, LagMeter() as lag:
            try:
                self._visit(workload)
                traffic.warm_up()
                for probe in self._probes:
                    probe.start(workload)
                times = self._break_and_mend(victim, how, traffic, watch, workload)
            finally:
                for probe in self._probes:
                    probe.stop()
                traffic.stop(LEAVE_WITHIN_S)
        return msgspec.structs.replace(
            times,
            holders=watch.samples,
            generator_lag_s=lag.worst_s,
            runnable_per_core=lag.runnable_per_core,
            observed_ns=time.monotonic_ns(),
        )

    def _break_and_mend(self, victim: str, how: Way, traffic: Traffic, watch: HolderWatch, workload: int) -> UnitEpisode:
        lab, limits = self._lab, settings_of(self._run.lab)
        survivor = _other(lab, victim)
        wait_until(lambda: False, max(QUIET_S, limits.replication_s))
        before = self._tables(victim)
        called_ns = time.monotonic_ns()
        try:
            lab.fail_unit(victim, how)
            begun_ns = time.monotonic_ns()
            allowed_s = max(limits.takeover_s, limits.hung_takeover_s) + ANSWERS_AGAIN_S
            wait_until(lambda: survivor in watch.latest() and self._probes_answer_since(begun_ns), allowed_s)
            wait_until(lambda: traffic.all_recovered(begun_ns), RECOVERED_WITHIN_S)
            revisited_ns = time.monotonic_ns()
            self._visit(workload)
            after = self._tables(survivor)
        finally:
            ending_ns = time.monotonic_ns()
            lab.mend_unit(victim, how)
        ended_ns = time.monotonic_ns()
        wait_until(lambda: False, WATCHED_AFTER_S)
        return UnitEpisode(
            workload=workload, how=how, victim=victim, survivor=survivor, called_ns=called_ns, begun_ns=begun_ns,
            revisited_ns=revisited_ns, ending_ns=ending_ns, ended_ns=ended_ns, observed_ns=ended_ns,
            visitors=tuple(self._known), holders=(), entries_before=before, entries_after=after, generator_lag_s=0.0,
        )  # fmt: skip

    def _visit(self, workload: int) -> None:
        """Let every visitor come once, on a new connection, and try again a few times when that fails."""

        def on_vip(vip: Vip) -> None:
            failures = 0
            for talker in self._visitors[vip.name]:
                identity = talker.new_identity()
                number = 1
                for _ in range(TRIES):
                    operation = talker.say(Attempt(identity, number, workload=workload))
                    if operation.outcome == Outcome.ACKNOWLEDGED:
                        break
                    number += operation.key == identity.key  # a login that failed is no attempt to deliver the note
                talker.hang_up()
                failures = 0 if operation.outcome == Outcome.ACKNOWLEDGED else failures + 1
                if failures == GIVE_UP_AFTER:
                    break

        on_every_vip(self._run, on_vip)

    def _probes_answer_since(self, since_ns: int) -> bool:
        answered = {(probe.vip, probe.side) for probe in self._probes if probe.last_begun_ns > since_ns}
        return answered == {(probe.vip, probe.side) for probe in self._probes}

    def _tables(self, unit: str) -> dict[str, Mapping[str, str]]:
        try:
            site, servers = self._run.site, self._lab.unit(unit).balancer.servers()
            return {vip.name: table_of(self._lab, unit, vip, nodes_led_to(servers, vip.name, site.node)) for vip in site.vip}
        except (BalancerError, LabError):
            return {}


def cut_paths(run: Run, which: Literal["replication", "heartbeat", "all"]) -> CutEpisode:
    """Cut paths between the units for a while, and watch who has the VIPs, until the pair is whole again."""
    lab = run.lab
    if not isinstance(lab, CanCutPaths):
        raise MissingAbilityError("cut the paths between the units of a pair")
    await_whole(run, lab)
    cut_s = max(CUT_S, CUT_ADVERTS * settings_of(lab).advert_interval_s)
    with HolderWatch(lab) as watch:
        try:
            lab.cut_paths(which)
            begun_ns = time.monotonic_ns()
            wait_until(lambda: False, cut_s)
        finally:
            ending_ns = time.monotonic_ns()
            lab.mend_paths()
        ended_ns = time.monotonic_ns()
        is_whole = wait_until(lambda: not unlike_whole(lab, lab), WHOLE_WITHIN_S)
        wait_until(lambda: False, WATCHED_AFTER_S / 2)
    return CutEpisode(
        which=which, begun_ns=begun_ns, ending_ns=ending_ns, ended_ns=ended_ns, observed_ns=time.monotonic_ns(),
        holders=watch.samples, peers_established_after=is_whole,
    )  # fmt: skip


def await_whole(run: Run, pair: HasBalancerPair) -> None:
    """Return when one unit has the VIPs, and both are connected and know every server UP.

    Raises
    ------
    LabError
        When that takes too long; it says what is amiss.
    """
    found = ""

    def is_whole() -> bool:
        nonlocal found
        found = unlike_whole(run.lab, pair)
        return not found

    if not wait_until(is_whole, WHOLE_WITHIN_S):
        raise LabError(f"pair: expected a whole one before anything is broken, found that {found}")


class _Probe:
    """A client that asks one small thing again and again, on a new connection each time, in a thread of its own."""

    def __init__(self, talker: Talker, vip: str, side: str) -> None:
        self.vip = vip
        self.side = side
        self.last_begun_ns = 0  # of the last thing that was acknowledged
        self._talker = talker
        self._leave = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, workload: int) -> None:
        self._leave.clear()
        self._thread = threading.Thread(target=self._ask, args=(workload,), name=f"probe {self._talker.source}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._leave.set()
        if self._thread is not None:
            self._thread.join()

    def _ask(self, workload: int) -> None:
        while not self._leave.is_set():
            self._ask_one(self._talker.new_identity(), workload)
            self._leave.wait(PROBE_PACE_S)

    def _ask_one(self, identity: Identity, workload: int) -> None:
        """Ask one thing until it is acknowledged: what comes next must not overtake it."""
        number = 1
        while not self._leave.is_set():
            operation = self._talker.say(Attempt(identity, number, workload=workload))
            self._talker.hang_up()
            if operation.outcome == Outcome.ACKNOWLEDGED:
                self.last_begun_ns = operation.begun_ns
                return
            number += operation.key == identity.key  # a login that failed is no attempt to deliver the note
            self._leave.wait(PROBE_PACE_S / 5)


class _TableWatch(Repeated):
    """Reads the tables of one VIP on two units about twenty times a second, and notes when each entry was first there."""

    def __init__(self, pair: HasBalancerPair, units: tuple[str, str], vip: Vip, nodes: Sequence[Node]) -> None:
        super().__init__(f"tables of {vip.name}", TABLE_EVERY_S)
        self._pair, self._units, self._vip = pair, units, vip
        self._behind = {unit: nodes_led_to(pair.unit(unit).balancer.servers(), vip.name, nodes) for unit in units}
        self._first: dict[str, dict[str, tuple[int, str]]] = {unit: {} for unit in units}

    def __enter__(self) -> Self:
        self._look(time.monotonic_ns())
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._look(None)

    def knows(self, sources: Mapping[str, object]) -> bool:
        """Say whether all sources have an entry on both units."""
        return all(sources.keys() <= self._first[unit].keys() for unit in self._units)

    def first_ns(self, unit: str, source: str) -> int | None:
        """Return when the entry of a source was first seen; None: never."""
        return self._first[unit].get(source, (None, ""))[0]

    def node(self, unit: str, source: str) -> str:
        """Return the node of that entry."""
        return self._first[unit].get(source, (0, ""))[1]

    def _step(self) -> None:
        self._look(None)

    def _look(self, at_ns: int | None) -> None:
        for unit in self._units:
            try:
                table = table_of(self._pair, unit, self._vip, self._behind[unit])
            except (BalancerError, LabError):
                continue
            now = at_ns or time.monotonic_ns()
            for source, node in table.items():
                self._first[unit].setdefault(source, (now, node))


def _other(pair: HasBalancerPair, unit: str) -> str:
    return next(name for name in pair.units if name != unit)
