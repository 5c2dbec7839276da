"""Plays an episode: traffic on all VIPs, then a fault, then its end, with the balancer watched throughout."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from compose.lab import CanSteerBalancer
from lbconfig.site import Vip
from scenarios.episodes import Episode
from scenarios.faults import Fault, MissingAbilityError, ServiceKilled
from scenarios.run import Run
from scenarios.traffic import EpisodeError, TalkerFactory, Traffic
from scenarios.watch import SAMPLE_EVERY_S, BalancerWatch, LagMeter

BEFORE_S = 0.5  # of traffic before the fault
LEAVE_WITHIN_S = 60.0

Meanwhile = Callable[[threading.Event], None]


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """How long a fault is held, and what is waited for.

    The fault is held for at least `hold_at_least_s`, then until every victim's server has the status `until_status` (None:
    not waited for) and every resident source has recovered, and never longer than `hold_at_most_s`; then `linger_s` more.
    After its end the balancer has `up_within_s` to call every server UP, and every resident `served_within_s` to be served
    again; then the traffic goes on for `after_s`.

    `quiet`: nobody is under way. `interrupts`: the fault meets sticky sources between two connections; a reload is to meet
    them wherever they are. `work_finishes_after_s`: when, from the fault on, established sources end their sessions and
    come again. `meanwhile` is done in a thread of its own while the fault is held, until it is told to leave.
    """

    fault: Fault
    hold_at_least_s: float
    hold_at_most_s: float
    linger_s: float = 0
    until_status: str | None
    recovered: bool
    up_within_s: float
    after_s: float
    served_within_s: float = 0
    new_sources: bool = False
    quiet: bool = False
    interrupts: bool = True
    work_finishes_after_s: float | None = None
    meanwhile: Meanwhile | None = None


def play(run: Run, script: Script, make_talker: TalkerFactory) -> Episode:
    """Play an episode and return what is remembered of it. The fault is undone whatever happens.

    Raises
    ------
    MissingAbilityError
        When the lab cannot do the fault, or its balancer cannot be watched.
    EpisodeError
        When the traffic itself broke down.
    """
    if not isinstance(run.lab, CanSteerBalancer):
        raise MissingAbilityError("watch the balancer")
    fault = script.fault
    workload = run.workload(fault.name)
    traffic = Traffic(run, make_talker, workload)
    with BalancerWatch(run.lab.balancer) as watch, LagMeter() as lag:
        started_ns = time.monotonic_ns()
        try:
            if not script.quiet:
                traffic.warm_up()
            begun_ns, ending_ns, ended_ns = _break_and_mend(run, script, traffic, watch)
            wait_until(lambda: _all_up(watch), script.up_within_s)
            wait_until(lambda: traffic.all_recovered(ended_ns), script.served_within_s)
            wait_until(lambda: False, script.after_s)
            observed_ns = time.monotonic_ns()
        finally:
            traffic.stop(LEAVE_WITHIN_S)
    if not traffic.residents and not script.quiet:
        raise EpisodeError("traffic: expected resident sources, found none")
    return Episode(
        workload=workload, fault=fault.name, node=fault.node, started_ns=started_ns, begun_ns=begun_ns, ending_ns=ending_ns,
        ended_ns=ended_ns,
        observed_ns=observed_ns, sources=tuple(living.source for living in traffic.living), samples=watch.samples,
        generator_lag_s=lag.worst_s, runnable_per_core=lag.runnable_per_core, work_finished_ns=traffic.work_finished_ns,
    )  # fmt: skip


def _break_and_mend(run: Run, script: Script, traffic: Traffic, watch: BalancerWatch) -> tuple[int, int, int]:
    """Begin the fault, hold it, end it; return when it was in effect, began to be undone, and was undone (ns)."""
    wait_until(lambda: False, BEFORE_S)
    if script.interrupts:
        traffic.hold_sticky_sources()
    watch.look()  # what was there just before the fault, however short the traffic before it was
    try:
        script.fault.begin(run.lab)
        begun_ns = time.monotonic_ns()
        traffic.let_sticky_sources_go()
        if script.new_sources:
            traffic.send_new_sources()
        with _meanwhile(script):
            _hold(run, script, traffic, watch, begun_ns)
    finally:
        ending_ns = time.monotonic_ns()
        traffic.stop_new_sources()
        script.fault.end(run.lab)
    return begun_ns, ending_ns, time.monotonic_ns()


def _hold(run: Run, script: Script, traffic: Traffic, watch: BalancerWatch, begun_ns: int) -> None:
    victims = {
        (vip.name, server.label)
        for vip in run.site.vip
        for server in vip.real_server
        if script.fault.node in ("", server.node) and _is_hit(script.fault, vip)
    }

    def done() -> bool:
        if script.recovered and not traffic.all_recovered(begun_ns):
            return False
        latest = watch.latest()
        return script.until_status is None or all(
            key in latest and latest[key].status == script.until_status for key in victims
        )

    if script.work_finishes_after_s is not None:
        wait_until(lambda: False, script.work_finishes_after_s)
        traffic.finish_work()
    held_s = (time.monotonic_ns() - begun_ns) / 1e9
    wait_until(lambda: False, script.hold_at_least_s - held_s)
    wait_until(done, script.hold_at_most_s - max(script.hold_at_least_s, held_s))
    wait_until(lambda: False, script.linger_s)


@contextlib.contextmanager
def _meanwhile(script: Script) -> Iterator[None]:
    """Do beside the traffic what the script says, and raise what went wrong there."""
    if script.meanwhile is None:
        yield
        return
    body, leave = script.meanwhile, threading.Event()
    with ThreadPoolExecutor(1, "meanwhile") as beside:
        task = beside.submit(body, leave)
        try:
            yield
        finally:
            leave.set()
        task.result()


def _is_hit(fault: Fault, vip: Vip) -> bool:
    return not isinstance(fault, ServiceKilled) or fault.service == vip.service


def wait_until_up(run: Run) -> None:
    """Wait until the balancer calls no server DOWN, for as long as its health checks may take to see a short restart."""
    if isinstance(run.lab, CanSteerBalancer):
        balancer = run.lab.balancer
        longest_s = max(vip.health_check.down_within_s + vip.health_check.up_within_s for vip in run.site.vip)
        wait_until(lambda: not any(server.status.startswith("DOWN") for server in balancer.servers()), longest_s)


def wait_until_tables_can_be_taught(run: Run, within_s: float) -> bool:
    """Wait until the balancer can teach its persistence tables to its successor; return whether it can.

    One that was started or reloaded a moment ago cannot, and a reload then loses them: nobody reloads twice in five seconds.
    """
    if not isinstance(run.lab, CanSteerBalancer):
        raise MissingAbilityError("reload the balancer")
    return wait_until(run.lab.balancer.can_teach_tables, within_s)


def _all_up(watch: BalancerWatch) -> bool:
    return all(sample.status not in ("DOWN", "MAINT", "DRAIN") for sample in watch.latest().values())


def wait_until(condition: Callable[[], bool], at_most_s: float) -> bool:
    """Wait until a condition holds or the time is over; return whether it held."""
    deadline = time.monotonic() + at_most_s
    while not (held := condition()) and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(SAMPLE_EVERY_S, left))
    return held
